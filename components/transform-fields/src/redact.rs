use std::collections::BTreeMap;

use hmac::{Hmac, KeyInit, Mac};
use logship_stage::{Error, Origin, Result};
use regex::bytes::Regex;
use sha2::{Digest, Sha256};

use crate::config::{self, Config};
use crate::pattern;
use crate::shape::Either;

/// The name that stands for every field.
const EVERY: &str = "*";

/// What is done to the values of which name.
#[derive(Debug)]
pub(crate) struct Redactions {
    by_name: BTreeMap<String, Redaction>,
    /// To fields that have none of their own.
    every: Option<Redaction>,
}

/// What is done to a value.
#[derive(Debug, Clone, Default)]
pub(crate) struct Redaction {
    masks: Vec<Mask>,
    hasher: Option<Hasher>,
}

#[derive(Debug, Clone)]
struct Mask {
    regex: Regex,
    with: Vec<u8>,
    /// Whether `with` has what groups matched in it.
    expands: bool,
}

/// Room for what is made of a value.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    made: Vec<u8>,
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
        let every = masks.remove(EVERY);
        let names = masks.keys().copied().chain(config.hash.iter().map(String::as_str));
        let redaction = |name: &str| Redaction {
            masks: masks.get(name).into_iter().chain(&every).cloned().collect(),
            hasher: config.hash.iter().any(|hashed| hashed == name).then(|| hasher.clone()),
        };
        let by_name = names.map(|name| (name.to_owned(), redaction(name))).collect();
        Ok(Self { by_name, every: every.map(|mask| Redaction { masks: vec![mask], hasher: None }) })
    }

    /// What is done to the values of a field.
    pub(crate) fn of_field(&self, key: &str) -> Option<&Redaction> {
        self.by_name.get(key).or(self.every.as_ref())
    }

    /// All that have a name.
    pub(crate) fn named(&self) -> impl Iterator<Item = (&String, &Redaction)> {
        self.by_name.iter()
    }
}

impl Redaction {
    /// What a value becomes, if anything else.
    pub(crate) fn apply<'s>(&self, value: &[u8], scratch: &'s mut Scratch) -> Option<&'s [u8]> {
        let Scratch { made, next } = scratch;
        let mut changed = false;
        for mask in &self.masks {
            next.clear();
            if mask.apply(if changed { made } else { value }, next) {
                std::mem::swap(made, next);
                changed = true;
            }
        }
        if let Some(hasher) = &self.hasher {
            let value = if changed { made.as_slice() } else { value };
            if !value.is_empty() {
                let digest = hasher.hex(value);
                made.clear();
                made.extend_from_slice(&digest);
                changed = true;
            }
        }
        changed.then_some(made)
    }
}

impl Mask {
    fn of(path: &str, mask: &config::Mask) -> Result<Self> {
        let regex = pattern::compile(path, &mask.matches)?;
        let expands = mask.with.contains('$');
        Ok(Self { regex, with: mask.with.clone().into(), expands })
    }

    /// Appends a value with its matches masked, if there are any.
    fn apply(&self, value: &[u8], out: &mut Vec<u8>) -> bool {
        let mut rest = 0;
        let mut found = false;
        if self.expands {
            for captures in self.regex.captures_iter(value) {
                let whole = captures.get_match();
                out.extend_from_slice(&value[rest..whole.start()]);
                captures.expand(&self.with, out);
                (rest, found) = (whole.end(), true);
            }
        } else {
            for whole in self.regex.find_iter(value) {
                out.extend_from_slice(&value[rest..whole.start()]);
                out.extend_from_slice(&self.with);
                (rest, found) = (whole.end(), true);
            }
        }
        if found {
            out.extend_from_slice(&value[rest..]);
        }
        found
    }
}

/// Bytes of a digest in hexadecimal.
const HEX: usize = 64;

#[derive(Debug, Clone)]
enum Hasher {
    Plain,
    /// Under a key.
    Keyed(Hmac<Sha256>),
}

impl Hasher {
    fn of(config: &Config) -> Result<Self> {
        let Some(key) = &config.hash_key else { return Ok(Self::Plain) };
        if config.hash.is_empty() {
            return Err(Error::config("hash_key", "nothing is hashed; name what is to be in `hash`"));
        }
        if key.is_empty() {
            return Err(Error::config("hash_key", "is empty; leave it out for a hash without a key"));
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
        // Of the right length: there is nothing that could be wrong.
        let _ = hex::encode_to_slice(digest, &mut hex);
        hex
    }
}
