;; Calls proc_exit.
(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (func (export "auth_abi_v1") (result i32) (i32.const 0))
  (func (export "auth_alloc") (param i32) (result i32) (i32.const 1024))
  (func (export "auth_verify") (param i32 i32) (result i64) (call $exit (i32.const 0)) (unreachable)))
