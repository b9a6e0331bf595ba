//! Resource quantities (`resource.Quantity`): `500m`, `1.5Gi`, `2e3`, exact to a billionth, kept in canonical form.

use std::fmt;

/// A quantity, in billionths, with the suffix family it was written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

/// The family of suffixes that a quantity prints with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// `n u m "" k M G T P E`.
    DecimalSi,
    /// `Ki Mi Gi Ti Pi Ei`.
    BinarySi,
    /// `e3`, `E6`.
    DecimalExponent,
}

/// Why a text is not a quantity. The texts are upstream's, since they end in error messages to users.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// Not a number with an optional suffix.
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    /// A number with a suffix that there is not.
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

const NANOS: i128 = 1_000_000_000;
/// Upstream caps quantities at the largest signed 64-bit number of units.
const MAX_NANOS: i128 = (i64::MAX as i128) * NANOS;
const DECIMAL: [(i32, &str); 10] =
    [(-9, "n"), (-6, "u"), (-3, "m"), (0, ""), (3, "k"), (6, "M"), (9, "G"), (12, "T"), (15, "P"), (18, "E")];
const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];

impl Quantity {
    /// Nothing, in decimal format.
    pub const ZERO: Self = Self { nanos: 0, format: Format::DecimalSi };

    /// `units` whole units.
    pub fn from_units(units: i64, format: Format) -> Self {
        Self { nanos: i128::from(units) * NANOS, format }
    }

    /// `milli` thousandths, as CPU is counted.
    pub fn from_milli(milli: i64) -> Self {
        Self {
            nanos: (i128::from(milli) * 1_000_000).clamp(-MAX_NANOS, MAX_NANOS),
            format: Format::DecimalSi,
        }
    }

    /// Parses a number with an optional suffix. What is finer than a billionth is rounded away from zero.
    pub fn parse(text: &str) -> Result<Self, QuantityError> {
        let (negative, rest) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            Some(_) => (false, text),
            None => return Err(QuantityError::Format),
        };
        let number_len = rest.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
        let (number, suffix) = rest.split_at(number_len);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if fraction.contains('.') || whole.len() + fraction.len() == 0 {
            return Err(QuantityError::Format);
        }
        let (scale, format) = parse_suffix(suffix)?;
        let nanos = scaled(whole, fraction, scale);
        Ok(Self { nanos: if negative { -nanos } else { nanos }, format })
    }

    /// Whole units, rounded up.
    pub fn value(&self) -> i64 {
        div_up(self.nanos, NANOS)
    }

    /// Thousandths, rounded up.
    pub fn milli_value(&self) -> i64 {
        div_up(self.nanos, 1_000_000)
    }

    /// Billionths, exact.
    pub fn nanos(&self) -> i128 {
        self.nanos
    }

    /// -1, 0 or 1.
    pub fn sign(&self) -> i32 {
        self.nanos.signum() as i32
    }

    /// True for nothing, in any format.
    pub fn is_zero(&self) -> bool {
        self.nanos == 0
    }

    /// The suffix family it prints with.
    pub fn format(&self) -> Format {
        self.format
    }

    fn combine(self, other: Self, nanos: i128) -> Self {
        // As upstream: nothing takes the format of what is added to it.
        let format = if self.is_zero() { other.format } else { self.format };
        Self { nanos: nanos.clamp(-MAX_NANOS, MAX_NANOS), format }
    }
}

fn div_up(nanos: i128, unit: i128) -> i64 {
    let up = nanos.div_euclid(unit) + i128::from(nanos.rem_euclid(unit) != 0);
    up.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
}

/// What the digits are multiplied by.
enum Scale {
    Ten(i32),
    Two(u32),
}

fn parse_suffix(suffix: &str) -> Result<(Scale, Format), QuantityError> {
    if let Some((exponent, _)) = DECIMAL.iter().find(|(_, s)| *s == suffix) {
        return Ok((Scale::Ten(*exponent), Format::DecimalSi));
    }
    if let Some(step) = BINARY.iter().position(|s| *s == suffix) {
        return Ok((Scale::Two(step as u32 * 10), Format::BinarySi));
    }
    if let Some(exponent) = suffix.strip_prefix(['e', 'E']) {
        let exponent: i64 = exponent.parse().map_err(|_| suffix_error(suffix))?;
        return Ok((Scale::Ten(exponent.clamp(-100, 100) as i32), Format::DecimalExponent));
    }
    Err(suffix_error(suffix))
}

/// A suffix made of other letters than suffixes have is a format error.
fn suffix_error(suffix: &str) -> QuantityError {
    let letters = suffix.trim_start_matches(|c| "eEinumkKMGTP".contains(c));
    let digits = letters.strip_prefix(['-', '+']).unwrap_or(letters);
    if digits.bytes().all(|b| b.is_ascii_digit()) { QuantityError::Suffix } else { QuantityError::Format }
}

/// The digits times the scale in billionths, rounded up and capped.
fn scaled(whole: &str, fraction: &str, scale: Scale) -> i128 {
    let (ten, two) = match scale {
        Scale::Ten(exponent) => (exponent, 0),
        Scale::Two(exponent) => (0, exponent),
    };
    // Digits past the 28th matter only to rounding up, which the lost flag keeps.
    let mut value: i128 = 0;
    let mut exponent = ten + 9 - fraction.len() as i32;
    let mut lost = false;
    for digit in whole.bytes().chain(fraction.bytes()).map(|b| i128::from(b - b'0')) {
        if value < 10_i128.pow(27) {
            value = value * 10 + digit;
        } else {
            exponent += 1;
            lost |= digit != 0;
        }
    }
    let factor = 1_i128 << (two.min(60));
    while exponent < 0 && value != 0 {
        // Multiply by the power of two first as long as it fits, so that no exact value is rounded.
        let divisor = 10_i128.pow((-exponent).min(27) as u32);
        if let Some(product) = value.checked_mul(factor) {
            let down = exponent + 27;
            let up = product / divisor + i128::from(product % divisor != 0 || lost);
            return if down < 0 { i128::from(up != 0) } else { up.min(MAX_NANOS) };
        }
        value /= 10;
        exponent += 1;
        lost = true;
    }
    let mut result = value.saturating_mul(factor).min(MAX_NANOS);
    for _ in 0..exponent.max(0) {
        result = result.saturating_mul(10).min(MAX_NANOS);
    }
    (result + i128::from(lost)).min(MAX_NANOS)
}

impl fmt::Display for Quantity {
    /// The canonical form: no fraction, the largest suffix that loses nothing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        let units = self.nanos / NANOS;
        if self.format == Format::BinarySi && self.nanos % NANOS == 0 && units.abs() >= 1024 {
            let step = ((units.trailing_zeros() / 10) as usize).min(BINARY.len() - 1);
            return write!(f, "{}{}", units >> (10 * step), BINARY[step]);
        }
        let (mut value, mut exponent) = (self.nanos, -9);
        while value % 1000 == 0 && exponent < 18 {
            value /= 1000;
            exponent += 3;
        }
        match (self.format, DECIMAL.iter().find(|(e, _)| *e == exponent)) {
            (Format::DecimalExponent, _) if exponent == 0 => write!(f, "{value}"),
            (Format::DecimalExponent, _) | (_, None) => write!(f, "{value}e{exponent}"),
            (_, Some((_, suffix))) => write!(f, "{value}{suffix}"),
        }
    }
}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.nanos.cmp(&other.nanos))
    }
}

impl std::ops::Add for Quantity {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        self.combine(other, self.nanos + other.nanos)
    }
}

impl std::ops::Sub for Quantity {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        self.combine(other, self.nanos - other.nanos)
    }
}

impl std::str::FromStr for Quantity {
    type Err = QuantityError;
    fn from_str(text: &str) -> Result<Self, QuantityError> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_forms() {
        for (input, canonical) in [
            ("0", "0"),
            ("0Gi", "0"),
            ("100m", "100m"),
            ("1000m", "1"),
            ("1.5", "1500m"),
            ("0.5Gi", "512Mi"),
            ("1024Mi", "1Gi"),
            ("1536Mi", "1536Mi"),
            ("1023", "1023"),
            ("512", "512"),
            ("2048Ki", "2Mi"),
            ("1e3", "1e3"),
            ("1E6", "1e6"),
            ("1500", "1500"),
            ("2000k", "2M"),
            ("1E", "1E"),
            ("-1.5Gi", "-1536Mi"),
            ("0.1n", "1n"),
            ("1Ki", "1Ki"),
            ("100Ei", "9223372036854775807"),
            ("+5", "5"),
            (".5", "500m"),
            ("5.", "5"),
            ("1.5Ki", "1536"),
            ("0.3Ki", "307200m"),
            ("12e-3", "12e-3"),
            ("1e-20", "1e-9"),
        ] {
            assert_eq!(Quantity::parse(input).map(|q| q.to_string()).as_deref(), Ok(canonical), "{input}");
        }
    }

    #[test]
    fn wrong_texts() {
        for (input, error) in [
            ("", QuantityError::Format),
            ("abc", QuantityError::Format),
            ("1.2.3", QuantityError::Format),
            ("1x", QuantityError::Format),
            ("1mm", QuantityError::Suffix),
            ("1ki", QuantityError::Suffix),
            ("1 Gi", QuantityError::Format),
            ("1e", QuantityError::Suffix),
        ] {
            assert_eq!(Quantity::parse(input), Err(error), "{input}");
        }
    }

    #[test]
    fn values_round_up_and_sums_keep_the_format() {
        let q = |t: &str| Quantity::parse(t).unwrap();
        assert_eq!(q("1001u").milli_value(), 2);
        assert_eq!(q("1m").value(), 1);
        assert_eq!((q("1Gi") + q("1024Mi")).to_string(), "2Gi");
        assert_eq!((Quantity::ZERO + q("1Gi")).to_string(), "1Gi");
        assert_eq!((q("1") - q("250m")).to_string(), "750m");
        assert!(q("1Gi") > q("1G"));
    }
}
