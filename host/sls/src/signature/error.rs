/// A failed signature verification.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureError {
    /// The Authorization header has an unknown form.
    #[error(
        "Authorization has an unknown form: use LOG ID:SIGNATURE or SLS4-HMAC-SHA256 Credential=ID/SCOPE,Signature=SIGNATURE"
    )]
    UnknownForm,
    /// The Authorization header lacks an access key ID.
    #[error("Authorization lacks an AccessKeyId")]
    MissingKeyId,
    /// The request lacks a date.
    #[error("the header {header} is missing")]
    MissingDate {
        /// The header that this version requires.
        header: &'static str,
    },
    /// The date can't be parsed.
    #[error("{header} has {text:?}, which is not a date: use a form like {example}")]
    InvalidDate {
        /// The header.
        header: &'static str,
        /// The header's value, truncated.
        text: String,
        /// A valid example.
        example: &'static str,
    },
    /// The request's date differs too much from the server's time.
    #[error(
        "the request's date {date} differs from the server's time by {seconds} s, and the limit is 900 s: set the sender's clock"
    )]
    Skewed {
        /// The date as sent, truncated.
        date: String,
        /// The difference, in seconds.
        seconds: u64,
    },
    /// Version 1 requires a header that names the method.
    #[error("the header x-log-signaturemethod is missing: send hmac-sha1")]
    MissingMethod,
    /// Version 1 supports only one method.
    #[error("x-log-signaturemethod {method:?} is not supported: use hmac-sha1")]
    InvalidMethod {
        /// The header's value, truncated.
        method: String,
    },
    /// The scope has another date than the request.
    #[error("the signature's scope must be DATE/REGION/sls/aliyun_v4_request with the date of x-log-date")]
    Scope,
    /// The body doesn't match the signed hash.
    #[error("{header} doesn't match the body: hash the body as sent")]
    Body {
        /// The header with the body's hash in this version.
        header: &'static str,
    },
    /// The request was signed with another secret, or was modified after signing.
    #[error("signature {signature} not match")]
    NotMatch {
        /// The signature as sent, truncated.
        signature: String,
    },
}
