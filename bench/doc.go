// Command bench runs Cordon with its default policies and the brokers it is
// compared with, puts the same load on each in the same run, and writes tables
// and charts to bench/results. README.md in this folder says what the numbers
// mean and how far to trust them.
//
//	go run ./bench                          everything, three rounds
//	go run ./bench -rounds 1 -scale 0.2     a quick look
//	go run ./bench -only 'fan-in' -peers cordon,mosquitto
//
// Package load is the generator, peers starts the brokers, report writes.
// Nothing imports this package.
package main
