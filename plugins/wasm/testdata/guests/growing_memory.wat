;; Grows its memory page by page, for ever, and touches each.
(module
  (memory (export "memory") 1)
  (func (export "auth_abi_v1") (result i32) (i32.const 0))
  (func (export "auth_alloc") (param i32) (result i32) (i32.const 1024))
  (func (export "auth_verify") (param i32 i32) (result i64)
    (loop (drop (memory.grow (i32.const 1)))
      (i32.store (i32.sub (i32.mul (memory.size) (i32.const 65536)) (i32.const 4)) (i32.const 7))
      (br 0))
    (i64.const 0)))
