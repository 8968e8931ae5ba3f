//! The checksum of PlainBuffer: polynomial 0x07, initial value 0, not reflected.

/// For each byte, the checksum of it and of so many zeros after it.
static TABLES: [[u8; 256]; 8] = tables();

const fn tables() -> [[u8; 256]; 8] {
    let mut tables = [[0; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let (mut crc, mut bit) = (byte as u8, 0);
        while bit < 8 {
            crc = if crc & 0x80 == 0 { crc << 1 } else { crc << 1 ^ 0x07 };
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut zeros = 1;
    while zeros < 8 {
        let mut byte = 0;
        while byte < 256 {
            tables[zeros][byte] = tables[0][tables[zeros - 1][byte] as usize];
            byte += 1;
        }
        zeros += 1;
    }
    tables
}

/// Continues a checksum with bytes. Eight at a time, whose lookups don't wait for each other.
#[inline(always)]
pub(crate) fn update(mut crc: u8, bytes: &[u8]) -> u8 {
    let (blocks, rest) = bytes.as_chunks::<8>();
    for block in blocks {
        crc = TABLES[7][(block[0] ^ crc) as usize]
            ^ TABLES[6][block[1] as usize]
            ^ TABLES[5][block[2] as usize]
            ^ TABLES[4][block[3] as usize]
            ^ TABLES[3][block[4] as usize]
            ^ TABLES[2][block[5] as usize]
            ^ TABLES[1][block[6] as usize]
            ^ TABLES[0][block[7] as usize];
    }
    for &byte in rest {
        crc = TABLES[0][(byte ^ crc) as usize];
    }
    crc
}

/// Continues a checksum with one byte.
#[inline(always)]
pub(crate) fn update_byte(crc: u8, byte: u8) -> u8 {
    TABLES[0][(byte ^ crc) as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_and_bytes_agree() {
        // The check value of CRC-8 with this polynomial.
        assert_eq!(update(0, b"123456789"), 0xf4);
        let bytes: Vec<u8> = (0..100_u8).map(|byte| byte.wrapping_mul(37)).collect();
        for end in 0..bytes.len() {
            let single = bytes[..end].iter().fold(7, |crc, &byte| update_byte(crc, byte));
            assert_eq!(update(7, &bytes[..end]), single, "{end}");
        }
    }
}
