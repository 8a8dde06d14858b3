//! Numbers and dates as the volume holds them (ECMA-119, sections 7 to 9).

use std::fmt;
use std::str::FromStr;

use lycia_tree::Timestamp;

/// Little-endian, then big-endian (7.3.3).
pub fn both_32(value: u32) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&value.to_le_bytes());
    bytes[4..].copy_from_slice(&value.to_be_bytes());
    bytes
}

/// Little-endian, then big-endian (7.2.3).
pub fn both_16(value: u16) -> [u8; 4] {
    let mut bytes = [0; 4];
    bytes[..2].copy_from_slice(&value.to_le_bytes());
    bytes[2..].copy_from_slice(&value.to_be_bytes());
    bytes
}

/// A date and time of the Gregorian calendar, in UTC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Civil {
    pub year: i64,
    pub month: u8,
    pub day: u8,
    pub hour: u8,
    pub minute: u8,
    pub second: u8,
}

impl Civil {
    /// From seconds since 1970.
    pub fn from_seconds(seconds: i64) -> Civil {
        let days = seconds.div_euclid(86_400);
        let second = seconds.rem_euclid(86_400);
        // Days since 0000-03-01, so that the leap day ends a year; 400 years have 146,097 days.
        let days = days + 719_468;
        let era = days.div_euclid(146_097);
        let day_of_era = days.rem_euclid(146_097);
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month + 2) / 5 + 1;
        let month = if month < 10 { month + 3 } else { month - 9 };
        Civil {
            year: year_of_era + era * 400 + i64::from(month <= 2),
            month: month as u8,
            day: day as u8,
            hour: (second / 3600) as u8,
            minute: (second / 60 % 60) as u8,
            second: (second % 60) as u8,
        }
    }

    /// To seconds since 1970. Out of range fields carry.
    pub fn to_seconds(self) -> i64 {
        let month = i64::from(self.month);
        let year = self.year - i64::from(month <= 2);
        let era = year.div_euclid(400);
        let year_of_era = year.rem_euclid(400);
        let day_of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + i64::from(self.day) - 1;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        let days = era * 146_097 + day_of_era - 719_468;
        days * 86_400 + i64::from(self.hour) * 3600 + i64::from(self.minute) * 60 + i64::from(self.second)
    }
}

/// The date of a directory record (9.1.5) and of a Rock Ridge time stamp: 7 bytes, the years 1900 to 2155.
pub fn record_date(time: Timestamp) -> Option<[u8; 7]> {
    let civil = Civil::from_seconds(time.seconds);
    let year = u8::try_from(civil.year - 1900).ok()?;
    Some([
        year,
        civil.month,
        civil.day,
        civil.hour,
        civil.minute,
        civil.second,
        0,
    ])
}

/// Reads [`record_date`], in any time zone.
pub fn parse_record_date(bytes: [u8; 7]) -> Option<Timestamp> {
    let [year, month, day, hour, minute, second, zone] = bytes;
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let zone = i64::from(zone as i8);
    if !(-48..=52).contains(&zone) {
        return None;
    }
    let civil = Civil {
        year: 1900 + i64::from(year),
        month,
        day,
        hour,
        minute,
        second,
    };
    Some(Timestamp::from_seconds(civil.to_seconds() - zone * 15 * 60))
}

/// A date of the volume descriptor (8.4.26.1): to a hundredth of a second, in UTC. Its text is what blkid
/// shows as the UUID of an ISO 9660 volume, like `2020-09-13-12-26-40-00`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct VolumeTime {
    seconds: i64,
    hundredths: u8,
}

impl VolumeTime {
    /// The date, to the hundredth below; `None` outside of the years 1 to 9999.
    pub fn new(time: Timestamp) -> Option<VolumeTime> {
        (1..=9999)
            .contains(&Civil::from_seconds(time.seconds).year)
            .then_some(VolumeTime {
                seconds: time.seconds,
                hundredths: (time.nanoseconds / 10_000_000).min(99) as u8,
            })
    }

    /// The date that differs from `time` by a number of hundredths of a second below one hour that depends
    /// on `seed` alone, so that two images of the same moment still have UUIDs of their own. `None` as
    /// [`VolumeTime::new`].
    pub fn distinct(time: Timestamp, seed: u64) -> Option<VolumeTime> {
        let offset = seed % 360_000;
        let seconds = time.seconds.checked_add((offset / 100) as i64)?;
        let nanoseconds = (offset % 100) as u32 * 10_000_000;
        VolumeTime::new(Timestamp { seconds, nanoseconds })
    }

    /// Seconds since 1970.
    pub fn seconds(self) -> i64 {
        self.seconds
    }

    pub(super) fn encode(self) -> [u8; 17] {
        let mut bytes = [0; 17];
        let digits = self.to_string();
        let digits = digits.bytes().filter(u8::is_ascii_digit);
        for (slot, digit) in bytes[..16].iter_mut().zip(digits) {
            *slot = digit;
        }
        bytes
    }

    /// `None` when the field holds no date.
    pub(super) fn decode(bytes: &[u8; 17]) -> Option<VolumeTime> {
        let number = |range: std::ops::Range<usize>| {
            bytes[range].iter().try_fold(0u32, |value, byte| {
                byte.is_ascii_digit().then(|| value * 10 + u32::from(byte - b'0'))
            })
        };
        let civil = Civil {
            year: number(0..4)?.into(),
            month: number(4..6)? as u8,
            day: number(6..8)? as u8,
            hour: number(8..10)? as u8,
            minute: number(10..12)? as u8,
            second: number(12..14)? as u8,
        };
        let seconds = civil.to_seconds();
        // Only what is a date comes back as it was.
        (civil.year > 0 && Civil::from_seconds(seconds) == civil).then_some(VolumeTime {
            seconds,
            hundredths: number(14..16)? as u8,
        })
    }
}

impl fmt::Display for VolumeTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Civil {
            year,
            month,
            day,
            hour,
            minute,
            second,
        } = Civil::from_seconds(self.seconds);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}-{hour:02}-{minute:02}-{second:02}-{:02}",
            self.hundredths
        )
    }
}

impl FromStr for VolumeTime {
    type Err = String;

    fn from_str(text: &str) -> Result<VolumeTime, String> {
        let refuse = || format!("`{text}` is no UUID of an ISO image, like 2020-09-13-12-26-40-00");
        let mut bytes = [0; 17];
        let digits: Vec<u8> = text.bytes().filter(|&byte| byte != b'-').collect();
        if digits.len() != 16 {
            return Err(refuse());
        }
        bytes[..16].copy_from_slice(&digits);
        VolumeTime::decode(&bytes)
            .filter(|time| time.to_string() == text)
            .ok_or_else(refuse)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01-00-00-00-00"),
            (-1, "1969-12-31-23-59-59-00"),
            (951_782_400, "2000-02-29-00-00-00-00"),
            (1_600_000_000, "2020-09-13-12-26-40-00"),
            (4_107_542_399, "2100-02-28-23-59-59-00"),
            (4_107_542_400, "2100-03-01-00-00-00-00"),
            (253_402_300_799, "9999-12-31-23-59-59-00"),
        ] {
            let time = VolumeTime::new(Timestamp::from_seconds(seconds)).unwrap();
            assert_eq!(time.to_string(), text);
            assert_eq!(text.parse(), Ok(time));
            assert_eq!(VolumeTime::decode(&time.encode()), Some(time));
        }
        assert_eq!(VolumeTime::new(Timestamp::from_seconds(253_402_300_800)), None);
        for seconds in (-3_000_000_000..6_000_000_000).step_by(86_400 * 13 + 12_345) {
            assert_eq!(Civil::from_seconds(seconds).to_seconds(), seconds);
        }
    }

    #[test]
    fn what_is_no_date_is_refused() {
        for text in [
            "",
            "2020-13-13-12-26-40-00",
            "2020-02-30-12-26-40-00",
            "2020-02-20-24-26-40-00",
            "20200220-24-26-40-00",
            "0000-00-00-00-00-00-00",
            "2020-02-20-12-26-40-0x",
        ] {
            assert!(text.parse::<VolumeTime>().is_err(), "{text}");
        }
        assert_eq!(VolumeTime::decode(b"0000000000000000\0"), None);
    }

    #[test]
    fn record_dates() {
        for seconds in [-2_208_988_800, -1, 0, 1_600_000_000, 5_869_583_999] {
            let time = Timestamp::from_seconds(seconds);
            assert_eq!(parse_record_date(record_date(time).unwrap()), Some(time));
        }
        assert_eq!(record_date(Timestamp::from_seconds(-2_208_988_801)), None);
        assert_eq!(record_date(Timestamp::from_seconds(5_869_584_000)), None);
        // One hour east of Greenwich.
        assert_eq!(
            parse_record_date([70, 1, 1, 1, 0, 0, 4]),
            Some(Timestamp::from_seconds(0))
        );
        assert_eq!(parse_record_date([70, 0, 1, 1, 0, 0, 0]), None);
    }

    #[test]
    fn distinct_dates_stay_within_the_hour() {
        let time = Timestamp::from_seconds(1_600_000_000);
        let mut all = std::collections::BTreeSet::new();
        for seed in 0..1000 {
            let date = VolumeTime::distinct(time, seed * 7919).unwrap();
            assert!((0..3600).contains(&(date.seconds() - time.seconds)));
            all.insert(date);
        }
        assert_eq!(all.len(), 1000);
    }
}
