//! Random components, as text: loops, branches, tables of branches, calls, indirect and tail calls, memory and globals.

use std::fmt::Write as _;

/// Random numbers of a seed (xorshift), and what they decide.
pub(crate) struct Random {
    state: u64,
    /// True if a loop of the module never ends.
    is_endless: bool,
}

/// The functions of a module. A function calls those with larger numbers only, so that all calls end.
const FUNCTIONS: u32 = 6;

/// The local variables of a function: its parameters `$0` and `$1`, and three others.
const LOCALS: u64 = 5;

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self { state: (seed + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15), is_endless: false }
    }

    #[must_use]
    pub(crate) fn endless(self) -> Self {
        Self { is_endless: true, ..self }
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state >> 24) % limit
    }

    fn pick<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len() as u64) as usize]
    }
}

/// Returns a component that exports `f`, from `u32` to `u32`.
pub(crate) fn component(random: &mut Random) -> String {
    let mut module = String::from(
        "(type $step (func (param i32 i32) (result i32)))
        (memory 1) (global $g (mut i32) (i32.const 3)) (global $h (mut i64) (i64.const 5))
        (table $t 8 8 funcref)\n",
    );
    let elements: String = (0..FUNCTIONS).rev().map(|n| format!(" $f{n}")).collect();
    _ = writeln!(module, "(elem (table $t) (i32.const 0) func{elements})");
    for number in 0..FUNCTIONS {
        let body = Function { random, number, blocks: vec![], calls: 3, loops: 0 }.body();
        let locals =
            "(local $2 i32) (local $3 i32) (local $4 i32) (local $n0 i32) (local $n1 i32) (local $n2 i32)";
        _ = writeln!(module, "(func $f{number} (param $0 i32) (param $1 i32) (result i32) {locals} {body})");
    }
    let end = if random.is_endless {
        random.pick(&[
            "(loop (br 0))",
            "(loop (local.set $n (call $f5 (local.get $n) (i32.const 1))) (br 0))",
            "(loop (br_table 0 0 0 (local.get $n)))",
            "(loop (drop (memory.grow (i32.const 0))) (br 0))",
            "(loop (block (br_if 0 (local.get $n)) (br 1)) (br 0))",
            "(loop (call_indirect (type $step) (local.get $n) (i32.const 2) (i32.const 0)) (br_if 0 (i32.const 1)) (drop))",
        ])
    } else {
        ""
    };
    format!(
        r#"(component
            (core module $m {module}
                (func (export "f") (param $n i32) (result i32)
                    (local.set $n (call $f0 (local.get $n) (i32.const 17))) {end} (local.get $n)))
            (core instance $i (instantiate $m))
            (func (export "f") (param "n" u32) (result u32) (canon lift (core func $i "f"))))"#
    )
}

/// A function, while its text is made.
struct Function<'a> {
    random: &'a mut Random,
    number: u32,
    /// The open blocks. True for a loop.
    blocks: Vec<bool>,
    /// The calls that it may still have, so that modules end soon.
    calls: u32,
    /// The open loops. Each has a counter.
    loops: u32,
}

impl Function<'_> {
    fn body(&mut self) -> String {
        let statements = self.statements(3);
        let result = self.value(2);
        let callee = self.callee();
        match (self.random.below(4), callee) {
            (0, Some(callee)) => {
                format!("{statements} (return_call $f{callee} {result} (local.get $1))")
            }
            (1, _) => format!("{statements} (return {result})"),
            _ => format!("{statements} {result}"),
        }
    }

    /// Returns a function that this one may call.
    fn callee(&mut self) -> Option<u32> {
        let others = u64::from(FUNCTIONS - 1 - self.number);
        if others == 0 || self.calls == 0 || self.loops > 0 {
            return None;
        }
        self.calls -= 1;
        Some(self.number + 1 + self.random.below(others) as u32)
    }

    fn local(&mut self) -> u64 {
        self.random.below(LOCALS)
    }

    fn statements(&mut self, level: u32) -> String {
        (0..1 + self.random.below(4)).map(|_| self.statement(level)).collect()
    }

    fn statement(&mut self, level: u32) -> String {
        let (local, choice) = (self.local(), self.random.below(if level == 0 { 4 } else { 9 }));
        match choice {
            0 => format!("(local.set ${local} {})", self.value(2)),
            1 => format!("(global.set $g {})", self.value(1)),
            2 => format!("(i32.store (i32.and {} (i32.const 0xfff)) {})", self.value(1), self.value(1)),
            3 => self.leave(),
            4 => {
                let condition = self.value(1);
                let [then, other] = [0; 2].map(|_| self.block(level, false));
                format!("(if {condition} (then {then}) (else {other}))")
            }
            5 => format!("(block {})", self.block(level, false)),
            6 => "(global.set $h (i64.add (global.get $h) (i64.extend_i32_u (global.get $g))))".into(),
            7 => {
                let length = self.random.below(200);
                let kind = self.random.pick(&["memory.fill", "memory.copy"]);
                let source = if kind == "memory.fill" { "(i32.const 7)" } else { "(i32.const 256)" };
                format!("({kind} (i32.const 64) {source} (i32.const {length}))")
            }
            _ => self.repeat(level),
        }
    }

    /// Returns a branch out of a block or of the function, or a trap.
    fn leave(&mut self) -> String {
        let (condition, depth) = (self.value(1), self.blocks.len());
        let target = self.random.below(depth as u64 + 1) as usize;
        match (self.random.below(60), target) {
            (0, _) => format!("(if {condition} (then (unreachable)))"),
            (1..10, _) => format!("(if {condition} (then (return {})))", self.value(1)),
            (_, target) if target == depth => format!("(drop (br_if {depth} {} {condition}))", self.value(1)),
            // A branch to a loop would repeat it.
            (_, target) if self.blocks[depth - 1 - target] => "(nop)".into(),
            (10..30, target) => format!("(block (br_table 0 {} {condition}))", target + 1),
            (_, target) => format!("(br_if {target} {condition})"),
        }
    }

    fn block(&mut self, level: u32, is_loop: bool) -> String {
        self.blocks.push(is_loop);
        let statements = self.statements(level - 1);
        self.blocks.pop();
        statements
    }

    /// Returns a loop that runs some times.
    fn repeat(&mut self, level: u32) -> String {
        if self.loops == 3 {
            return "(nop)".into();
        }
        let (counter, times) = (self.loops, 1 + self.random.below(5));
        self.loops += 1;
        let statements = self.block(level, true);
        let again = self.random.pick(&[
            "(br_if 0 (local.get $n#))",
            "(block (br_table 0 1 (i32.ne (local.get $n#) (i32.const 0))))",
        ]);
        self.loops -= 1;
        format!(
            "(local.set $n# (i32.const {times})) (loop {statements}
                (local.set $n# (i32.sub (local.get $n#) (i32.const 1))) {again})"
        )
        .replace('#', &counter.to_string())
    }

    /// Returns an expression.
    fn value(&mut self, level: u32) -> String {
        let (local, constant) = (self.local(), self.random.below(1 << 16));
        if level == 0 {
            return self
                .random
                .pick(&["(local.get $L)", "(i32.const C)", "(global.get $g)"])
                .replace('L', &local.to_string())
                .replace('C', &constant.to_string());
        }
        let (a, b) = (self.value(level - 1), self.value(level - 1));
        let index = self.callee().map(|callee| FUNCTIONS - 1 - callee);
        match (self.random.below(7), index) {
            (0, Some(index)) => format!("(call $f{} {a} {b})", FUNCTIONS - 1 - index),
            (1, Some(index)) => format!("(call_indirect $t (type $step) {a} {b} (i32.const {index}))"),
            (2, _) => format!("(i32.load (i32.and {a} (i32.const 0xfff)))"),
            (3, _) => format!("(select {a} {b} (local.get ${local}))"),
            (4, _) if self.random.below(20) == 0 => format!("(i32.div_u {a} {b})"),
            _ => format!(
                "({} {a} {b})",
                self.random.pick(&["i32.add", "i32.xor", "i32.mul", "i32.rotl", "i32.lt_u"])
            ),
        }
    }
}
