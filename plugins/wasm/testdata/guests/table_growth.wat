;; Grows its table for ever.
(module
  (table $t 1 funcref)
  (memory (export "memory") 1)
  (func (export "auth_abi_v1") (result i32) (i32.const 0))
  (func (export "auth_alloc") (param i32) (result i32) (i32.const 1024))
  (func (export "auth_verify") (param i32 i32) (result i64)
    (loop (drop (table.grow $t (ref.null func) (i32.const 4096))) (br 0)) (i64.const 0)))
