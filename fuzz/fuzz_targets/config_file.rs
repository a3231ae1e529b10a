#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringmq_fuzz::config_file(data));
