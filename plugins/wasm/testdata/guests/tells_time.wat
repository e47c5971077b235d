;; Refuses everybody with what its clock says, in nanoseconds: 19 digits.
(module
  (import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 16) "{\"ok\":false,\"reason\":\"0000000000000000000\"}")
  (func (export "auth_abi_v1") (result i32) (i32.const 0))
  (func (export "auth_alloc") (param i32) (result i32) (i32.const 1024))
  (func (export "auth_verify") (param i32 i32) (result i64)
    (local $left i64) (local $at i32)
    (drop (call $clock (i32.const 0) (i64.const 1) (i32.const 8)))
    (local.set $left (i64.load (i32.const 8)))
    (local.set $at (i32.const 57)) ;; behind the last digit, 16 + 22 + 19
    (loop $digits
      (local.set $at (i32.sub (local.get $at) (i32.const 1)))
      (i32.store8 (local.get $at)
        (i32.add (i32.const 48) (i32.wrap_i64 (i64.rem_u (local.get $left) (i64.const 10)))))
      (local.set $left (i64.div_u (local.get $left) (i64.const 10)))
      (br_if $digits (i32.gt_u (local.get $at) (i32.const 38))))
    (i64.const 0x100000002b))) ;; 16 << 32 | 43
