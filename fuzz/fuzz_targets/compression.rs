#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| logship_fuzz::hostile::compression(bytes));
