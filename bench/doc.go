// Command bench loads Cordon and the Mosquitto of the distribution in the same
// run and prints what a message costs each of them. README.md in this folder
// says what the numbers mean and how far to trust them.
//
//	go run ./bench            every case, three rounds, medians
//	go run ./bench -rounds 1  a quick look
//
// Nothing imports this package.
package main
