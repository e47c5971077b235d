// Package peers starts the brokers that are compared, each as a process of its
// own, and reads what the kernel says of it.
//
// Cordon is built and run as the program that it is, with its default policies
// and a registry of devices with generated tokens. The others allow everything
// and know nobody: Mosquitto as the distribution has it, the server of mochi and
// nats-server built from the modules in the folders below, and bare, which
// answers a CONNECT over TLS and nothing else.
//
// Clients of Cordon are devices with short topics and applications; its mounts
// make long topics of the short ones. Clients of the others write the long topics themselves.
//
// Everything that is written lies in one folder, which [Lab.Close] removes.
package peers
