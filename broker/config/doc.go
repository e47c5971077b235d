// Package config holds what `cordon serve` can be told: one flat struct, its
// defaults, and the four places a value may come from.
//
// # The contract
//
//   - Every setting has one name. It is the flag (--tls-cert), in capitals the
//     environment variable (CORDON_TLS_CERT), and the field of the YAML file
//     (tls-cert).
//   - A flag wins over the environment, the environment over the file, the file
//     over the default. A variable that is set but empty counts as not set.
//   - A list is a flag given several times, a variable with commas, or a YAML
//     list. Sources do not add up: the strongest one that states a list states
//     all of it.
//   - The file is read strictly: an unknown field, a value of another type, an
//     anchor or a second document is an error that names file:line:col. All
//     errors of a file are reported together.
//   - [Config.Validate] looks at the whole and reports all problems at once. It
//     reads nothing: whether a folder or a certificate exists is found out by
//     the one who opens it.
//   - After validation a Config is read-only. [Config.Effective] fills in what
//     other settings imply.
//
// No setting is a secret, so all of them may be printed.
package config
