//! `esker config`.

use clap::{Args, Subcommand, ValueEnum};
use esker_client::Admin;
use esker_client::admin::{ConfigEntry, ConfigOp, ConfigSource, Resource};
use esker_protocol::primitives::Str;
use serde_json::json;

use super::arguments::{distinct, pairs};
use super::connect::Connect;
use super::error::CliError;
use super::output::{or_dash, print_line, table};

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

/// Kinds of resources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// A topic.
    Topic,
    /// A broker by its id, or default: all brokers.
    Broker,
    /// A group.
    Group,
    /// A client-metrics subscription.
    ClientMetrics,
    /// The loggers of a broker, by its id.
    BrokerLogger,
}

/// A resource.
#[derive(Debug, Args)]
pub struct ResourceArgs {
    #[command(flatten)]
    connect: Connect,
    /// What the resource is.
    #[arg(value_enum)]
    kind: Kind,
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

fn parse_resource(kind: Kind, name: &str) -> Result<Resource, CliError> {
    let id = || name.parse::<i32>().ok().filter(|id| *id >= 0);
    Ok(match kind {
        Kind::Topic => Resource::Topic(Str::copy(name)),
        Kind::Group => Resource::Group(Str::copy(name)),
        Kind::ClientMetrics => Resource::ClientMetrics(Str::copy(name)),
        Kind::Broker if name == "default" => Resource::Broker(None),
        Kind::Broker => Resource::Broker(Some(
            id().ok_or_else(|| CliError::Usage(format!("a broker is an id, or default; not '{name}'")))?,
        )),
        Kind::BrokerLogger => {
            Resource::BrokerLogger(id().ok_or_else(|| CliError::Usage(format!("a broker is an id, not '{name}'")))?)
        }
    })
}

async fn get(args: GetArgs) -> Result<(), CliError> {
    let resource = parse_resource(args.resource.kind, &args.resource.name)?;
    let entries = Admin::new(&args.resource.connect.client().await?).describe_configs(&resource).await?;
    let keys = distinct(&args.keys);
    if let Some(missing) = keys.iter().find(|key| !entries.iter().any(|entry| entry.name == **key)) {
        return Err(CliError::Refused(format!("{resource} has no config '{missing}'; --all lists what there is")));
    }
    let wanted = |entry: &&ConfigEntry| match keys.is_empty() {
        true => args.all || is_set(entry),
        false => keys.contains(&entry.name),
    };
    let entries: Vec<_> = entries.iter().filter(wanted).collect();
    if args.json {
        let row = |entry: &&ConfigEntry| {
            json!({
                "name": entry.name.as_str(), "value": entry.value.as_deref(), "source": entry.source.name(),
                "read_only": entry.read_only, "sensitive": entry.sensitive,
            })
        };
        return Ok(print_line(&serde_json::to_string_pretty(&entries.iter().map(row).collect::<Vec<_>>())?)?);
    }
    let row = |entry: &&ConfigEntry| {
        let value = if entry.sensitive { Some("(hidden)") } else { entry.value.as_deref() };
        vec![entry.name.to_string(), or_dash(value), entry.source.name().to_owned()]
    };
    Ok(table(&["CONFIG", "VALUE", "SOURCE"], &entries.iter().map(row).collect::<Vec<_>>())?)
}

/// Whether the value comes from the resource, from a broker's file or from a dynamic config: from anything but the default.
fn is_set(entry: &ConfigEntry) -> bool {
    entry.source != ConfigSource::Default
}

async fn alter(args: &ResourceArgs, changes: Vec<(Str, ConfigOp)>, json: bool) -> Result<(), CliError> {
    let resource = parse_resource(args.kind, &args.name)?;
    Admin::new(&args.connect.client().await?).alter_configs(&resource, &changes).await?;
    let names: Vec<_> = changes.iter().map(|(name, _)| name.as_str()).collect();
    if json {
        let changed = json!({"name": args.name, "outcome": "changed", "configs": names});
        return Ok(print_line(&serde_json::to_string_pretty(&changed)?)?);
    }
    Ok(print_line(&format!("changed {resource}: {}", names.join(", ")))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_by_kind_and_name() {
        assert_eq!(parse_resource(Kind::Broker, "default").unwrap(), Resource::Broker(None));
        assert_eq!(parse_resource(Kind::Broker, "3").unwrap(), Resource::Broker(Some(3)));
        assert_eq!(parse_resource(Kind::Topic, "3").unwrap(), Resource::Topic("3".into()));
        assert_eq!(parse_resource(Kind::BrokerLogger, "3").unwrap(), Resource::BrokerLogger(3));
        for (kind, name) in [(Kind::Broker, "-1"), (Kind::Broker, "x"), (Kind::BrokerLogger, "default")] {
            assert!(parse_resource(kind, name).is_err(), "{name}");
        }
    }
}
