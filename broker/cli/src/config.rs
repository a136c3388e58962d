//! `esker config`.

use clap::{Args, Subcommand};
use esker_admin::{ConfigReport, ResourceKind, alter_configs, parse_resource, read_configs};
use esker_client::Admin;
use esker_client::admin::ConfigOp;
use esker_protocol::primitives::Str;

use esker_records::arguments::{distinct, pairs};
use esker_records::connect::Connect;
use esker_records::error::CliError;
use esker_records::output::{or_dash, print_json, print_line, table};

/// What can be done with configs.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print configs: those that are set, all, or those that are named.
    Get(GetArgs),
    /// Set configs; the others stay as they are.
    Set(SetArgs),
    /// Set configs back to what holds without them.
    Unset(UnsetArgs),
}

/// A resource.
#[derive(Debug, Args)]
pub struct ResourceArgs {
    #[command(flatten)]
    connect: Connect,
    /// What the resource is.
    #[arg(value_enum)]
    kind: ResourceKind,
    /// Its name; a broker's id, or default for all brokers.
    name: String,
}

/// Flags of `get`.
#[derive(Debug, Args)]
pub struct GetArgs {
    #[command(flatten)]
    resource: ResourceArgs,
    /// The configs [default: those that are set].
    #[arg(value_name = "KEY")]
    keys: Vec<String>,
    /// Also the defaults.
    #[arg(short, long)]
    all: bool,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// Flags of `set`.
#[derive(Debug, Args)]
pub struct SetArgs {
    #[command(flatten)]
    resource: ResourceArgs,
    /// The configs.
    #[arg(required = true, value_name = "KEY=VALUE")]
    configs: Vec<String>,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// Flags of `unset`.
#[derive(Debug, Args)]
pub struct UnsetArgs {
    #[command(flatten)]
    resource: ResourceArgs,
    /// The configs.
    #[arg(required = true, value_name = "KEY")]
    keys: Vec<String>,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// Runs one.
pub async fn run(command: ConfigCommand) -> Result<(), CliError> {
    match command {
        ConfigCommand::Get(args) => get(args).await,
        ConfigCommand::Set(args) => {
            let changes = pairs(&args.configs)?.into_iter().map(|(key, value)| (key, ConfigOp::Set(value)));
            alter(&args.resource, changes.collect(), args.json).await
        }
        ConfigCommand::Unset(args) => {
            let changes = distinct(&args.keys).into_iter().map(|key| (key, ConfigOp::Delete));
            alter(&args.resource, changes.collect(), args.json).await
        }
    }
}

async fn get(args: GetArgs) -> Result<(), CliError> {
    let resource = parse_resource(args.resource.kind, &args.resource.name)?;
    let admin = Admin::new(&args.resource.connect.client().await?);
    let keys = distinct(&args.keys);
    let mut entries = read_configs(&admin, &resource, args.all || !keys.is_empty()).await?;
    if let Some(missing) = keys.iter().find(|key| !entries.iter().any(|entry| entry.name == key.as_str())) {
        return Err(CliError::Refused(format!("{resource} has no config '{missing}'; --all lists what there is")));
    }
    entries.retain(|entry| keys.is_empty() || keys.iter().any(|key| entry.name == key.as_str()));
    if args.json {
        return print_json(&entries);
    }
    let row = |entry: &ConfigReport| {
        let value = if entry.sensitive { Some("(hidden)") } else { entry.value.as_deref() };
        vec![entry.name.clone(), or_dash(value), entry.source.to_owned()]
    };
    Ok(table(&["CONFIG", "VALUE", "SOURCE"], &entries.iter().map(row).collect::<Vec<_>>())?)
}

async fn alter(args: &ResourceArgs, changes: Vec<(Str, ConfigOp)>, json: bool) -> Result<(), CliError> {
    let resource = parse_resource(args.kind, &args.name)?;
    let admin = Admin::new(&args.connect.client().await?);
    let changed = alter_configs(&admin, (&resource, &args.name), &changes).await?;
    if json {
        return print_json(&changed);
    }
    Ok(print_line(&format!("changed {resource}: {}", changed.configs.join(", ")))?)
}
