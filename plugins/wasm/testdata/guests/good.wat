;; Lets everybody in as one device, and may be repeated for a minute.
(module
  (memory (export "memory") 1)
  (func (export "auth_abi_v1") (result i32) (i32.const 0))
  (func (export "auth_alloc") (param i32) (result i32) (i32.const 1024))
  (data (i32.const 16) "{\"ok\":true,\"subject\":{\"kind\":\"device\",\"type\":\"sensor\",\"id\":\"d1\"},\"expires_at_ms\":4102444800000,\"cache_ttl_ms\":60000,\"claims\":{\"site\":\"north\"}}")
  (func (export "auth_verify") (param i32 i32) (result i64) (i64.const 68719476878 )))
