;; Spin's variables, from the environment: SPIN_VARIABLE_NAME. For hosts without Spin.
(component
  (import "wasi:cli/environment@VERSION" (instance $environment
    (export "get-environment" (func (result (list (tuple string string)))))))

  ;; An allocator that only advances. It starts again behind the environment after each call.
  (core module $heap
    (memory (export "memory") 1)
    (global $heap (export "heap") (mut i32) (i32.const 64))
    (func (export "realloc") (param $old i32) (param $old_size i32) (param $align i32) (param $size i32) (result i32)
      (local $at i32) (local $pages i32)
      (local.set $at (i32.and
        (i32.add (global.get $heap) (i32.sub (local.get $align) (i32.const 1)))
        (i32.sub (i32.const 0) (local.get $align))))
      (if (i32.gt_u (local.get $size) (i32.sub (i32.const 0x7fffffff) (local.get $at))) (then (unreachable)))
      (global.set $heap (i32.add (local.get $at) (local.get $size)))
      (local.set $pages (i32.sub
        (i32.shr_u (i32.add (global.get $heap) (i32.const 65535)) (i32.const 16)) (memory.size)))
      (if (i32.gt_s (local.get $pages) (i32.const 0)) (then
        (if (i32.eq (memory.grow (local.get $pages)) (i32.const -1)) (then (unreachable)))))
      (memory.copy (local.get $at) (local.get $old) (local.get $old_size))
      (local.get $at)))
  (core instance $heap (instantiate $heap))
  (core func $get_environment (canon lower (func $environment "get-environment")
    (memory (core memory $heap "memory")) (realloc (core func $heap "realloc"))))
  (core instance $imports (export "get-environment" (func $get_environment)))

  (core module $variables
    (import "heap" "memory" (memory 1))
    (import "heap" "heap" (global $heap (mut i32)))
    (import "imports" "get-environment" (func $get_environment (param i32)))
    ;; Bytes 0-13: the prefix. 16-31: the result. 40-47: the environment, a list of pairs of strings.
    (data (i32.const 0) "SPIN_VARIABLE_")
    ;; The heap behind the environment; 0 before it is read.
    (global $base (mut i32) (i32.const 0))

    (func $upper (param $letter i32) (result i32)
      (i32.sub (local.get $letter)
        (i32.shl (i32.lt_u (i32.sub (local.get $letter) (i32.const 97)) (i32.const 26)) (i32.const 5))))

    ;; True if the variable's name in the environment is the prefix and the name in capitals.
    (func $matches (param $entry i32) (param $name i32) (param $length i32) (result i32)
      (local $key i32) (local $i i32)
      (local.set $key (i32.load (local.get $entry)))
      (if (i32.ne (i32.load offset=4 (local.get $entry)) (i32.add (local.get $length) (i32.const 14)))
        (then (return (i32.const 0))))
      (loop $prefix
        (if (i32.ne (i32.load8_u (i32.add (local.get $key) (local.get $i))) (i32.load8_u (local.get $i)))
          (then (return (i32.const 0))))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if $prefix (i32.lt_u (local.get $i) (i32.const 14))))
      (local.set $key (i32.add (local.get $key) (i32.const 14)))
      (local.set $i (i32.const 0))
      (block $all (loop $name_letters
        (br_if $all (i32.eq (local.get $i) (local.get $length)))
        (if (i32.ne (i32.load8_u (i32.add (local.get $key) (local.get $i)))
            (call $upper (i32.load8_u (i32.add (local.get $name) (local.get $i)))))
          (then (return (i32.const 0))))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br $name_letters)))
      (i32.const 1))

    (func (export "get") (param $name i32) (param $length i32) (result i32)
      (local $entry i32) (local $end i32)
      (if (i32.eqz (global.get $base)) (then
        (call $get_environment (i32.const 40))
        (global.set $base (global.get $heap))))
      (local.set $entry (i32.load (i32.const 40)))
      (local.set $end (i32.add (local.get $entry) (i32.shl (i32.load (i32.const 44)) (i32.const 4))))
      (block $undefined (loop $next
        (br_if $undefined (i32.eq (local.get $entry) (local.get $end)))
        (if (call $matches (local.get $entry) (local.get $name) (local.get $length)) (then
          (i32.store (i32.const 16) (i32.const 0))
          (i32.store (i32.const 20) (i32.load offset=8 (local.get $entry)))
          (i32.store (i32.const 24) (i32.load offset=12 (local.get $entry)))
          (return (i32.const 16))))
        (local.set $entry (i32.add (local.get $entry) (i32.const 16)))
        (br $next)))
      ;; The error `undefined`, with the name.
      (i32.store (i32.const 16) (i32.const 1))
      (i32.store (i32.const 20) (i32.const 1))
      (i32.store (i32.const 24) (local.get $name))
      (i32.store (i32.const 28) (local.get $length))
      (i32.const 16))

    (func (export "done") (param i32) (global.set $heap (global.get $base))))
  (core instance $variables (instantiate $variables
    (with "heap" (instance $heap)) (with "imports" (instance $imports))))

  (type $error (variant
    (case "invalid-name" string) (case "undefined" string) (case "provider" string) (case "other" string)))
  (func $get async (param "name" string) (result (result string (error $error)))
    (canon lift (core func $variables "get") (memory (core memory $heap "memory"))
      (realloc (core func $heap "realloc")) (post-return (core func $variables "done"))))
  ;; Types of an exported function need names.
  (component $named
    (type $error (variant
      (case "invalid-name" string) (case "undefined" string) (case "provider" string) (case "other" string)))
    (import "error" (type $named_error (eq $error)))
    (import "get" (func $get async (param "name" string) (result (result string (error $named_error)))))
    (export $exported_error "error" (type $named_error))
    (export "get" (func $get)
      (func async (param "name" string) (result (result string (error $exported_error))))))
  (instance $named (instantiate $named (with "error" (type $error)) (with "get" (func $get))))
  (export "spin:variables/variables@3.0.0" (instance $named)))
