use fastrand::Rng;

/// Appends the number in decimal.
#[inline]
pub(crate) fn push_number(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return out.extend_from_slice(&digits[at..]);
        }
    }
}

/// Appends thousandths as a number with three decimals.
#[inline]
pub(crate) fn push_thousandths(out: &mut Vec<u8>, number: u64) {
    push_number(out, number / 1000);
    let rest = number % 1000;
    let digit = |value: u64| b'0' + (value % 10) as u8;
    out.extend_from_slice(&[b'.', digit(rest / 100), digit(rest / 10), digit(rest)]);
}

/// Appends 32 random hexadecimal digits, as in a request ID.
#[inline]
pub(crate) fn push_id(out: &mut Vec<u8>, rng: &mut Rng) {
    let mut digits = [0; 32];
    for half in digits.chunks_exact_mut(16) {
        let number = rng.u64(..);
        for (at, digit) in half.iter_mut().enumerate() {
            *digit = b"0123456789abcdef"[(number >> (4 * at)) as usize & 15];
        }
    }
    out.extend_from_slice(&digits);
}
