;; Keeps the first token it ever saw, in base64, and names it to whoever asks.
(module
  (memory (export "memory") 4)
  (global $kept (mut i32) (i32.const 0)) ;; its length
  (data (i32.const 131072) "{\"ok\":false,\"reason\":\"")
  (func (export "auth_abi_v1") (result i32) (i32.const 0))
  (func (export "auth_alloc") (param i32) (result i32) (i32.const 1024))
  ;; The text from $p up to the next quote becomes the reason.
  (func $keep (param $p i32)
    (loop $more
      (if (i32.ne (i32.load8_u (local.get $p)) (i32.const 34))
        (then
          (i32.store8 (i32.add (i32.const 131094) (global.get $kept)) (i32.load8_u (local.get $p)))
          (global.set $kept (i32.add (global.get $kept) (i32.const 1)))
          (local.set $p (i32.add (local.get $p) (i32.const 1)))
          (br $more)))))
  (func (export "auth_verify") (param $p i32) (param $n i32) (result i64)
    (local $end i32)
    (local.set $end (i32.add (local.get $p) (local.get $n)))
    (block $found
      (loop $search
        (br_if $found (global.get $kept))
        (br_if $found (i32.ge_u (local.get $p) (local.get $end)))
        (if (i64.eq (i64.load (local.get $p)) (i64.const 0x3a226e656b6f7422)) ;; "token":
          (then (call $keep (i32.add (local.get $p) (i32.const 9)))))
        (local.set $p (i32.add (local.get $p) (i32.const 1)))
        (br $search)))
    (i32.store16 (i32.add (i32.const 131094) (global.get $kept)) (i32.const 0x7d22)) ;; "}
    (i64.or (i64.const 0x2000000000000) ;; 131072 << 32
      (i64.extend_i32_u (i32.add (global.get $kept) (i32.const 24))))))
