;; Calls itself for ever in its start function.
(module
  (memory (export "memory") 1)
  (func (export "auth_abi_v1") (result i32) (i32.const 0))
  (func (export "auth_alloc") (param i32) (result i32) (i32.const 1024))
  (func $deep (param i64) (result i64) (i64.add (call $deep (i64.add (local.get 0) (i64.const 1))) (local.get 0)))
  (func $start (drop (call $deep (i64.const 0))))
  (start $start)
  (func (export "auth_verify") (param i32 i32) (result i64) (i64.const 0)))
