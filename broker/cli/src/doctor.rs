//! `esker doctor`: checks a running cluster and a client's way to it.
//!
//! `collect` gathers facts from what any client may read, `diagnose` judges them without further requests.

mod collect;
mod diagnose;
mod facts;
mod finding;
mod report;

use std::time::Duration;

use clap::Args;

use collect::Settings;
use esker_records::connect::Connect;
use esker_records::error::CliError;
use esker_records::times::parse_span;
use finding::Severity;

/// What `--help` ends with.
pub(super) const EXAMPLES: &str = "\
Examples:
  esker doctor
  esker doctor --http node-1:9644,node-2:9644,node-3:9644   also clocks and open files of the nodes
  esker doctor --sample 1m                                  also how many days are left until a disk is full
  esker doctor --json

The doctor only reads. It works with Apache Kafka, too: a check that the brokers lack an API for is skipped and named.

Exit codes: 0 nothing is wrong, 1 something is wrong, or the cluster cannot be reached (stderr says why), 2 wrong usage,
3 warnings only.";

/// Addresses of `--http`, at most.
const HTTP_ADDRESSES: usize = 1000;

/// Flags of `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    #[command(flatten)]
    connect: Connect,
    /// HTTP addresses of the nodes, HOST:PORT separated by commas: /metrics has their clocks and open files.
    #[arg(long, value_name = "HOST:PORT")]
    http: Option<String>,
    /// Measure for this long how fast the disks fill, such as 1m.
    #[arg(long, value_name = "SPAN")]
    sample: Option<String>,
    /// Longest wait for one connection or answer, such as 2s.
    #[arg(long, value_name = "SPAN", default_value = "5s")]
    timeout: String,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub(super) async fn run(args: DoctorArgs) -> Result<(), CliError> {
    let settings = Settings {
        http: http_addresses(args.http.as_deref())?,
        sample: args.sample.as_deref().map(span).transpose()?,
        timeout: span(&args.timeout)?,
    };
    let facts = collect::collect(args.connect.config()?, &settings).await?;
    let findings = diagnose::diagnose(&facts);
    report::print(&facts, &findings, args.json)?;
    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    match (count(Severity::Error), count(Severity::Warning)) {
        (0, 0) => Ok(()),
        (0, warnings) => Err(CliError::Warnings(format!("the doctor found warnings: {warnings}"))),
        (errors, warnings) => Err(CliError::No(format!("the doctor found errors: {errors}, warnings: {warnings}"))),
    }
}

fn span(text: &str) -> Result<Duration, CliError> {
    let millis = parse_span(text).and_then(|span| u64::try_from(span).ok()).filter(|span| *span > 0);
    let millis = millis.ok_or_else(|| CliError::Usage(format!("'{text}' is no time span: 500ms, 3s, 1m")))?;
    Ok(Duration::from_millis(millis))
}

fn http_addresses(list: Option<&str>) -> Result<Vec<String>, CliError> {
    let addresses: Vec<_> =
        list.unwrap_or_default().split(',').map(str::trim).filter(|a| !a.is_empty()).map(str::to_owned).collect();
    if let Some(wrong) = addresses.iter().find(|address| !address.contains(':') || address.contains('/')) {
        return Err(CliError::Usage(format!("--http is a list of HOST:PORT, '{wrong}' is none")));
    }
    if addresses.len() > HTTP_ADDRESSES {
        return Err(CliError::Usage(format!("--http takes up to {HTTP_ADDRESSES} addresses")));
    }
    Ok(addresses)
}
