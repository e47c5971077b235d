;; Never ends, and does not loop: a tree of calls, 2 to the power of 60.
(module
  (memory (export "memory") 1)
  (func (export "auth_abi_v1") (result i32) (i32.const 0))
  (func (export "auth_alloc") (param i32) (result i32) (i32.const 1024))
  (func $tree (param i32)
    (if (i32.eqz (local.get 0)) (then (return)))
    (call $tree (i32.sub (local.get 0) (i32.const 1)))
    (call $tree (i32.sub (local.get 0) (i32.const 1))))
  (func (export "auth_verify") (param i32 i32) (result i64) (call $tree (i32.const 60)) (i64.const 0)))
