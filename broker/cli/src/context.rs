//! `esker context`.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use esker_records::contexts::{Context, Contexts};
use esker_records::error::CliError;
use esker_records::output::{or_dash, print_line, table};
use esker_records::times::parse_span;

/// What `--help` ends with.
pub(super) const EXAMPLES: &str = "\
Examples:
  esker context set prod --bootstrap kafka-1:9092,kafka-2:9092 --client-id ops
  esker context use prod
  esker topic list                    in prod
  esker topic list --context dev      in dev

The brokers come from --bootstrap, else --context, else ESKER_BOOTSTRAP, else the current context, else 127.0.0.1:9092.
Contexts are in $XDG_CONFIG_HOME/esker/contexts.json (~/.config/esker/contexts.json).

Exit codes: 0 done, 1 it failed (stderr says why), 2 wrong usage.";

/// What can be done with contexts.
#[derive(Debug, Subcommand)]
pub enum ContextCommand {
    /// List contexts; the current one is marked.
    List(ListArgs),
    /// Make a context the current one.
    Use(NameArgs),
    /// Create a context, or change settings of one.
    Set(SetArgs),
    /// Remove a context.
    Remove(NameArgs),
}

/// Flags of `list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// A context by name.
#[derive(Debug, Args)]
pub struct NameArgs {
    /// The context.
    name: String,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// Flags of `set`.
#[derive(Debug, Args)]
pub struct SetArgs {
    /// The context.
    name: String,
    /// Brokers to begin with, HOST:PORT separated by commas. A new context needs it.
    #[arg(short = 'b', long, value_name = "HOST:PORT")]
    bootstrap: Option<String>,
    /// The name that brokers see in logs, metrics and quotas [default: esker].
    #[arg(long, value_name = "NAME")]
    client_id: Option<String>,
    /// Longest wait for a connection, such as 3s [default: 10s].
    #[arg(long, value_name = "SPAN")]
    connect_timeout: Option<String>,
    /// Longest wait for an answer, such as 1m [default: 30s].
    #[arg(long, value_name = "SPAN")]
    request_timeout: Option<String>,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// Runs one.
pub(super) fn run(command: ContextCommand) -> Result<(), CliError> {
    let mut contexts = Contexts::load()?;
    match command {
        ContextCommand::List(args) => list(&contexts, args.json),
        ContextCommand::Use(args) => {
            contexts.select(&args.name)?;
            contexts.save()?;
            print_outcome(&args.name, "selected", args.json)
        }
        ContextCommand::Remove(args) => {
            contexts.remove(&args.name)?;
            contexts.save()?;
            print_outcome(&args.name, "removed", args.json)
        }
        ContextCommand::Set(args) => {
            let context = change(contexts.get(&args.name).ok(), &args)?;
            contexts.set(&args.name, context)?;
            contexts.save()?;
            print_outcome(&args.name, "set", args.json)
        }
    }
}

fn change(known: Option<&Context>, args: &SetArgs) -> Result<Context, CliError> {
    let mut context = known.cloned().unwrap_or_default();
    if let Some(bootstrap) = &args.bootstrap {
        context.bootstrap.clone_from(bootstrap);
    }
    if context.bootstrap.trim().is_empty() {
        return Err(CliError::Usage(format!("context '{}' needs --bootstrap HOST:PORT", args.name)));
    }
    let millis = |text: &String| {
        let invalid = || CliError::Usage(format!("'{text}' is no time span: 500ms, 3s, 1m"));
        let span = parse_span(text).and_then(|span| u64::try_from(span).ok()).filter(|span| *span > 0);
        span.ok_or_else(invalid)
    };
    context.client_id = args.client_id.clone().or(context.client_id);
    context.connect_timeout_ms = args.connect_timeout.as_ref().map(millis).transpose()?.or(context.connect_timeout_ms);
    context.request_timeout_ms = args.request_timeout.as_ref().map(millis).transpose()?.or(context.request_timeout_ms);
    Ok(context)
}

fn list(contexts: &Contexts, as_json: bool) -> Result<(), CliError> {
    if as_json {
        let row = |(name, context, current): (&str, &Context, bool)| {
            let mut row = context.to_json();
            if let Value::Object(fields) = &mut row {
                fields.insert("name".to_owned(), name.into());
                fields.insert("current".to_owned(), current.into());
            }
            row
        };
        let rows: Vec<_> = contexts.iter().map(row).collect();
        return Ok(print_line(&serde_json::to_string_pretty(&rows)?)?);
    }
    let millis = |millis: Option<u64>| or_dash(millis.map(|millis| format!("{millis}ms")));
    let row = |(name, context, current): (&str, &Context, bool)| {
        vec![
            if current { "*" } else { "" }.to_owned(),
            name.to_owned(),
            context.bootstrap.clone(),
            or_dash(context.client_id.as_deref()),
            millis(context.connect_timeout_ms),
            millis(context.request_timeout_ms),
        ]
    };
    let heading = ["", "CONTEXT", "BOOTSTRAP", "CLIENT ID", "CONNECT TIMEOUT", "REQUEST TIMEOUT"];
    Ok(table(&heading, &contexts.iter().map(row).collect::<Vec<_>>())?)
}

fn print_outcome(name: &str, outcome: &str, as_json: bool) -> Result<(), CliError> {
    if as_json {
        let outcome = json!({"name": name, "outcome": outcome});
        return Ok(print_line(&serde_json::to_string_pretty(&outcome)?)?);
    }
    Ok(print_line(&format!("{outcome} {name}"))?)
}
