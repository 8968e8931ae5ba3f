use std::collections::{BTreeMap, HashSet};

use hmac::{Hmac, KeyInit, Mac};
use logship_stage::{Error, Origin, Result};
use regex::bytes::Regex;
use sha2::{Digest, Sha256};

use crate::config::{self, Config};
use crate::pattern;
use crate::shape::Either;

/// The name that means every field.
const ALL_FIELDS: &str = "*";

/// The redactions of values, by name.
#[derive(Debug)]
pub(crate) struct Redactions {
    by_name: BTreeMap<String, Redaction>,
    /// The redaction of fields without one of their own.
    default: Option<Redaction>,
}

/// The redaction of a value.
#[derive(Debug, Clone, Default)]
pub(crate) struct Redaction {
    masks: Vec<Mask>,
    hasher: Option<Hasher>,
}

#[derive(Debug, Clone)]
struct Mask {
    regex: Regex,
    with: Vec<u8>,
    /// True if `with` refers to capture groups.
    expands: bool,
}

/// Reusable buffers for redacted values.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    redacted: Vec<u8>,
    next: Vec<u8>,
}

impl Redactions {
    pub(crate) fn of(config: &Config) -> Result<Self> {
        let hasher = Hasher::of(config)?;
        let mut masks = BTreeMap::new();
        for (name, Either(mask)) in &config.mask {
            let path = format!("mask.{name}");
            Origin::parse(&path, name)?;
            masks.insert(name.as_str(), Mask::of(&path, mask)?);
        }
        let default = masks.remove(ALL_FIELDS);
        let names = masks.keys().copied().chain(config.hash.iter().map(String::as_str));
        let hashed: HashSet<&str> = config.hash.iter().map(String::as_str).collect();
        let redaction = |name: &str| Redaction {
            masks: masks.get(name).into_iter().chain(&default).cloned().collect(),
            hasher: hashed.contains(name).then(|| hasher.clone()),
        };
        let by_name = names.map(|name| (name.to_owned(), redaction(name))).collect();
        Ok(Self { by_name, default: default.map(|mask| Redaction { masks: vec![mask], hasher: None }) })
    }

    /// Returns the redaction of a field's values.
    pub(crate) fn of_field(&self, key: &str) -> Option<&Redaction> {
        self.by_name.get(key).or(self.default.as_ref())
    }

    /// Iterates over the redactions with a name.
    pub(crate) fn named(&self) -> impl Iterator<Item = (&String, &Redaction)> {
        self.by_name.iter()
    }
}

impl Redaction {
    /// Returns the redacted value, or `None` if it is unchanged.
    pub(crate) fn apply<'s>(&self, value: &[u8], scratch: &'s mut Scratch) -> Option<&'s [u8]> {
        let Scratch { redacted, next } = scratch;
        let mut changed = false;
        for mask in &self.masks {
            next.clear();
            if mask.apply(if changed { redacted } else { value }, next) {
                std::mem::swap(redacted, next);
                changed = true;
            }
        }
        if let Some(hasher) = &self.hasher {
            let value = if changed { redacted.as_slice() } else { value };
            if !value.is_empty() {
                let digest = hasher.hex(value);
                redacted.clear();
                redacted.extend_from_slice(&digest);
                changed = true;
            }
        }
        changed.then_some(redacted)
    }
}

impl Mask {
    fn of(path: &str, mask: &config::Mask) -> Result<Self> {
        let regex = pattern::compile(path, &mask.matches)?;
        let expands = mask.with.contains('$');
        Ok(Self { regex, with: mask.with.clone().into(), expands })
    }

    /// Appends a value with its matches masked. Returns false, and appends nothing, if there is no match.
    fn apply(&self, value: &[u8], out: &mut Vec<u8>) -> bool {
        let mut rest = 0;
        let mut has_match = false;
        if self.expands {
            for captures in self.regex.captures_iter(value) {
                let found_match = captures.get_match();
                out.extend_from_slice(&value[rest..found_match.start()]);
                captures.expand(&self.with, out);
                (rest, has_match) = (found_match.end(), true);
            }
        } else {
            for found_match in self.regex.find_iter(value) {
                out.extend_from_slice(&value[rest..found_match.start()]);
                out.extend_from_slice(&self.with);
                (rest, has_match) = (found_match.end(), true);
            }
        }
        if has_match {
            out.extend_from_slice(&value[rest..]);
        }
        has_match
    }
}

/// The length of a digest in hexadecimal.
const HEX: usize = 64;

#[derive(Debug, Clone)]
enum Hasher {
    Plain,
    /// HMAC with a key.
    Keyed(Hmac<Sha256>),
}

impl Hasher {
    fn of(config: &Config) -> Result<Self> {
        let Some(key) = &config.hash_key else { return Ok(Self::Plain) };
        if config.hash.is_empty() {
            return Err(Error::config(
                "hash_key",
                "it has no effect, because `hash` is empty; name values to hash in `hash`",
            ));
        }
        if key.is_empty() {
            return Err(Error::config("hash_key", "is empty; remove it to hash without a key"));
        }
        let keyed = Hmac::new_from_slice(key.as_bytes());
        Ok(Self::Keyed(keyed.map_err(|error| Error::config("hash_key", error))?))
    }

    fn hex(&self, value: &[u8]) -> [u8; HEX] {
        let digest: [u8; HEX / 2] = match self {
            Self::Plain => Sha256::digest(value).into(),
            Self::Keyed(hmac) => hmac.clone().chain_update(value).finalize().into_bytes().into(),
        };
        let mut hex = [0; HEX];
        // The buffer has the right length, so this cannot fail.
        let _ = hex::encode_to_slice(digest, &mut hex);
        hex
    }
}
