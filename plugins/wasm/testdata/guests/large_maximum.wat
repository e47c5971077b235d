;; Declares all the memory that there can be, takes what it gets, three pages at a
;; time and then one, and refuses everybody with how many it has: one digit.
(module
  (memory (export "memory") 1 65536)
  (data (i32.const 16) "{\"ok\":false,\"reason\":\"0\"}")
  (func (export "auth_abi_v1") (result i32) (i32.const 0))
  (func (export "auth_alloc") (param i32) (result i32) (i32.const 1024))
  (func (export "auth_verify") (param i32 i32) (result i64)
    (loop $more
      (br_if $more (i32.ne (memory.grow (i32.const 3)) (i32.const -1)))
      (br_if $more (i32.ne (memory.grow (i32.const 1)) (i32.const -1))))
    (i32.store8 (i32.const 38) (i32.add (i32.const 48) (memory.size)))
    (i64.const 0x1000000019))) ;; 16 << 32 | 25
