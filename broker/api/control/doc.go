// Package control is the operator's door on the local machine: a Unix socket
// that a running broker opens in its data folder, and the file that holds the
// token for the same calls made from elsewhere.
//
// # The contract
//
//   - [Listen] opens DATA/control.sock. Whoever can open that file is the
//     operator; nothing else is asked. Its mode is 0600 from the moment it
//     exists, whatever the umask is.
//   - Where that path is too long for a socket address, the socket lies in a
//     fresh folder of mode 0700 under the runtime folder, and DATA/control
//     holds its path.
//   - A socket that nobody answers on is left over from a broker that died, and
//     is removed. One that is answered is never touched: [ErrRunning].
//   - [Dial] returns an HTTP client whose every request goes to that socket, or
//     [ErrNotRunning]. It talks only to a socket that belongs to the owner of
//     the data folder, the caller or root, so that nobody can stand in for a
//     broker by making a folder of the right name.
//   - [Token] returns the token of DATA/operator.token, and makes the file, once,
//     with mode 0600. A file that others can read is refused, not repaired:
//     what was in it may be known.
package control
