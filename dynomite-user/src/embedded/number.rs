//! Numbers as Redis reads and writes them.

/// An integer in its one canonical spelling: no `+`, no blanks, no leading zeros.
pub fn parse_integer(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    match digits {
        b"0" => return (text.len() == 1).then_some(0),
        [b'1'..=b'9', ..] if text.len() <= 20 && digits.iter().all(u8::is_ascii_digit) => {}
        _ => return None,
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// A floating-point number as C reads one, never NaN.
pub fn parse_float(text: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(text).ok()?;
    let digits = text.trim_start_matches(['+', '-']);
    if text.len() - digits.len() > 1 {
        return None;
    }
    let number: f64 = text.parse().ok()?;
    let is_word = digits.starts_with(['i', 'I', 'n', 'N']);
    let is_out_of_range = number.is_infinite() && !is_word;
    let is_lost = number == 0.0
        && digits.bytes().take_while(|byte| !matches!(byte, b'e' | b'E')).any(|b| matches!(b, b'1'..=b'9'));
    (!number.is_nan() && !is_out_of_range && !is_lost).then_some(number)
}

/// Seventeen significant digits, the shorter of the two notations, no zeros at the end: what C calls `%.17g`.
pub fn format_float(number: f64) -> String {
    if number.is_infinite() {
        return if number > 0.0 { "inf".into() } else { "-inf".into() };
    }
    if number == 0.0 {
        return if number.is_sign_negative() { "-0".into() } else { "0".into() };
    }
    let scientific = format!("{number:.16e}");
    let (digits, exponent) = scientific.split_once('e').expect("a scientific number has an exponent");
    let exponent: i32 = exponent.parse().expect("an exponent is a number");
    if (-4..17).contains(&exponent) {
        let fixed = format!("{number:.*}", usize::try_from(16 - exponent).unwrap_or(0));
        return trim_zeros(&fixed).to_string();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{}e{sign}{:02}", trim_zeros(digits), exponent.abs())
}

fn trim_zeros(text: &str) -> &str {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text }
}

/// Decimal places that Redis writes.
const PLACES: u32 = 17;
const SCALE: u128 = 10u128.pow(PLACES);

/// The sum of two numbers in writing, as INCRBYFLOAT writes it: computed with 64 bits of mantissa, as Redis does on x86.
/// Numbers beyond 10^20, or with more than 17 decimal places, are computed with 53 bits.
pub fn add_floats(left: &[u8], right: &[u8]) -> Option<String> {
    if let (Some(left), Some(right)) = (decimal(left), decimal(right))
        && let Some(text) = Extended::of(left).add(Extended::of(right)).format()
    {
        return Some(text);
    }
    let sum = parse_float(left)? + parse_float(right)?;
    sum.is_finite().then(|| trim_zeros(&format!("{sum:.17}")).to_string())
}

/// `mantissa * 2^exponent`; the mantissa's highest bit is set, or it is zero.
#[derive(Clone, Copy)]
struct Extended {
    negative: bool,
    mantissa: u64,
    exponent: i32,
}

impl Extended {
    /// The nearest to a number that comes times 10^17.
    fn of(scaled: i128) -> Extended {
        let number = scaled.unsigned_abs();
        // So far to the left that the quotient has at least 64 bits, and all its other bits are known.
        let shift = number.leading_zeros().min(127) as i32 - 1;
        let shifted = number << shift;
        let (quotient, rest) = (shifted / SCALE, shifted % SCALE);
        // Another 57 bits, and whether there are more.
        let below = (rest << 57) / SCALE;
        let sticky = u128::from(!(rest << 57).is_multiple_of(SCALE));
        Extended::nearest(scaled < 0, quotient << 57 | below | sticky, -shift - 57)
    }

    /// Rounds to 64 bits, halves to even; the lowest bit of `number` stands for all below it.
    fn nearest(negative: bool, number: u128, exponent: i32) -> Extended {
        let surplus = 64 - number.leading_zeros() as i32;
        if surplus <= 0 {
            let mantissa = if number == 0 { 0 } else { (number << -surplus) as u64 };
            return Extended { negative, mantissa, exponent: exponent + surplus };
        }
        let (kept, cut) = (number >> surplus, number & ((1 << surplus) - 1));
        let half = 1u128 << (surplus - 1);
        let up = cut > half || cut == half && kept & 1 == 1;
        match u64::try_from(kept + u128::from(up)) {
            Ok(mantissa) => Extended { negative, mantissa, exponent: exponent + surplus },
            Err(_) => Extended { negative, mantissa: 1 << 63, exponent: exponent + surplus + 1 },
        }
    }

    fn add(self, other: Extended) -> Extended {
        let (large, small) = if self.mantissa == 0 || other.mantissa != 0 && other.exponent > self.exponent {
            (other, self)
        } else {
            (self, other)
        };
        let (wide, exponent) = (u128::from(large.mantissa) << 62, large.exponent - 62);
        let narrow = match exponent - small.exponent {
            _ if small.mantissa == 0 => 0,
            down @ ..=0 => u128::from(small.mantissa) << -down,
            down @ 1..=63 => u128::from(small.mantissa >> down) | u128::from(small.mantissa << (64 - down) != 0),
            _ => 1,
        };
        if large.negative == small.negative {
            return Extended::nearest(large.negative, wide + narrow, exponent);
        }
        Extended::nearest(if narrow > wide { small.negative } else { large.negative }, wide.abs_diff(narrow), exponent)
    }

    /// With 17 decimal places, and without the zeros at their end.
    fn format(self) -> Option<String> {
        let scaled = u128::from(self.mantissa) * SCALE;
        let scaled = match self.exponent {
            up @ 0..=6 => scaled << up,
            down @ -127..0 => {
                let (kept, cut) = (scaled >> -down, scaled & ((1 << -down) - 1));
                let half = 1u128 << (-down - 1);
                kept + u128::from(cut > half || cut == half && kept & 1 == 1)
            }
            ..-127 => 0,
            _ => return None,
        };
        let text = format!("{}.{:017}", scaled / SCALE, scaled % SCALE);
        let sign = if self.negative && scaled > 0 { "-" } else { "" };
        Some(format!("{sign}{}", trim_zeros(&text)))
    }
}

/// A plain decimal number, times 10^17.
fn decimal(text: &[u8]) -> Option<i128> {
    let text = std::str::from_utf8(text).ok()?;
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (digits, exponent) = match digits.split_once(['e', 'E']) {
        Some((digits, exponent)) => (digits, exponent.parse::<i32>().ok()?),
        None => (digits, 0),
    };
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() && part.is_empty() || !whole.bytes().chain(part.bytes()).all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let part = part.trim_end_matches('0');
    let shift = PLACES as i32 + exponent - i32::try_from(part.len()).ok()?;
    let number: i128 = format!("{whole}{part}").parse().ok()?;
    let scaled = match u32::try_from(shift) {
        Ok(shift) => number.checked_mul(10i128.checked_pow(shift)?)?,
        Err(_) if number == 0 => 0,
        Err(_) => return None,
    };
    Some(if negative { -scaled } else { scaled })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_spelled_in_one_way() {
        let check = |text: &str, number: Option<i64>| assert_eq!(parse_integer(text.as_bytes()), number, "{text}");
        check("0", Some(0));
        check("-7", Some(-7));
        check("9223372036854775807", Some(i64::MAX));
        check("-9223372036854775808", Some(i64::MIN));
        for bad in ["", "-", "+7", "07", "-0", "00", " 7", "7 ", "7x", "9223372036854775808", "0x7"] {
            check(bad, None);
        }
    }

    #[test]
    fn floats_are_read_as_c_reads_them() {
        let check = |text: &str, number: Option<f64>| assert_eq!(parse_float(text.as_bytes()), number, "{text}");
        check("3.5", Some(3.5));
        check("+3", Some(3.0));
        check("-.5", Some(-0.5));
        check("5.", Some(5.0));
        check("1e3", Some(1000.0));
        check("inf", Some(f64::INFINITY));
        check("-Infinity", Some(f64::NEG_INFINITY));
        for bad in ["", "nan", "x", "1e", " 1", "1 ", "1e999", "1e-999", "--1", "+-1", "0x", "1_0"] {
            check(bad, None);
        }
    }

    #[test]
    fn floats_are_written_with_seventeen_digits() {
        let check = |number: f64, text: &str| assert_eq!(format_float(number), text);
        check(3.0, "3");
        check(3.15, "3.1499999999999999");
        check(0.1, "0.10000000000000001");
        check(-2.5, "-2.5");
        check(1e16, "10000000000000000");
        check(1e17, "1e+17");
        check(1.5e300, "1.5000000000000001e+300");
        check(0.0001, "0.0001");
        check(0.00001, "1.0000000000000001e-05");
        check(f64::INFINITY, "inf");
        check(-0.0, "-0");
        check(100.0, "100");
    }

    #[test]
    fn sums_are_written_without_zeros() {
        let check = |left: &str, right: &str, sum: Option<&str>| {
            assert_eq!(add_floats(left.as_bytes(), right.as_bytes()).as_deref(), sum, "{left} + {right}");
        };
        check("10.50", "0.1", Some("10.6"));
        check("3", "-5", Some("-2"));
        check("5.0e3", "2.0e2", Some("5200"));
        check("0.1", "0.2", Some("0.3"));
        check("-0.5", "0.5", Some("0"));
        check("9223372036854775807", "0.1", Some("9223372036854775807"));
        check("-9223372036854775807", "-0.25", Some("-9223372036854775807"));
        check("1234.1", "0.1", Some("1234.19999999999999996"));
        check("1e-17", "0", Some("0.00000000000000001"));
        check("1e18", "1e-17", Some("1000000000000000000"));
        check("1", "-1e-17", Some("0.99999999999999999"));
        check("1e300", "1e300", Some(&format!("{:.0}", 2e300)));
        check("inf", "1", None);
        check("x", "1", None);
        check("", "1", None);
    }
}
