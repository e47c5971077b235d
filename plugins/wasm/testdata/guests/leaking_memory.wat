;; Grows by four pages with each request, and refuses it.
(module
  (memory (export "memory") 1)
  (func (export "auth_abi_v1") (result i32) (i32.const 0))
  (func (export "auth_alloc") (param i32) (result i32) (i32.const 1024))
  (data (i32.const 16) "{\"ok\":false}")
  (func (export "auth_verify") (param i32 i32) (result i64) (drop (memory.grow (i32.const 4))) (i64.const 68719476748 )))
