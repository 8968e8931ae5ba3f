/// Why a request isn't taken for its sender's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureError {
    /// The header is in no known form.
    #[error(
        "Authorization is in no known form. It is LOG ID:SIGNATURE, or SLS4-HMAC-SHA256 Credential=ID/SCOPE,Signature=SIGNATURE"
    )]
    UnknownForm,
    /// The header has no id.
    #[error("Authorization has no AccessKeyId")]
    MissingKeyId,
    /// The request has no date.
    #[error("there is no {header}")]
    MissingDate {
        /// The header that has it in this version.
        header: &'static str,
    },
    /// The date can't be read.
    #[error("{header} has {text:?}, which is no date like {example}")]
    InvalidDate {
        /// The header.
        header: &'static str,
        /// What it has, shortened.
        text: String,
        /// What it should look like.
        example: &'static str,
    },
    /// The request's date is too far from the server's.
    #[error(
        "the request is of {date}, which is {seconds} s from the server's time; 900 are allowed. Set the sender's clock"
    )]
    Skewed {
        /// The date, as it was sent.
        date: String,
        /// How far, in seconds.
        seconds: u64,
    },
    /// Version 1 needs a header that names the method.
    #[error("there is no x-log-signaturemethod. Send hmac-sha1")]
    MissingMethod,
    /// Version 1 knows one method only.
    #[error("x-log-signaturemethod has {method:?}, and hmac-sha1 is the only one")]
    InvalidMethod {
        /// What it has, shortened.
        method: String,
    },
    /// The scope is of another date than the request, or of another service.
    #[error(
        "the scope of the signature is not DATE/REGION/sls/aliyun_v4_request with the date of x-log-date"
    )]
    Scope,
    /// The body isn't the one that was signed.
    #[error("{header} is not that of the body. Hash the body as it is sent")]
    Body {
        /// The header that has the body's hash in this version.
        header: &'static str,
    },
    /// The request was signed with another secret, or changed since.
    #[error("signature {signature} not match")]
    NotMatch {
        /// The signature that was sent, shortened.
        signature: String,
    },
}
