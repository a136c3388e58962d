//! Apache Kafka as a peer: its jars, the command line of its own start script, and where it logs to.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Result;

/// Kafka's release that is measured; the pom resolves the same.
const KAFKA: &str = "4.4.0";
/// Heap and collector as in Kafka's own start script.
const JVM: [&str; 8] = [
    "-Xmx1G",
    "-Xms1G",
    "-server",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
    "-Djava.awt.headless=true",
];

/// The folder with Kafka's jars: in the cache folder, where Maven puts them once.
///
/// # Errors
/// There is no Maven, or it cannot fetch them.
pub fn libs() -> Result<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| std::env::home_dir().map(|home| home.join(".cache")));
    let libs = cache
        .ok_or("no home folder: name Kafka's jars with --kafka-libs")?
        .join("esker")
        .join(format!("kafka-{KAFKA}"));
    let whole = libs.join(".whole");
    if whole.is_file() {
        return Ok(libs);
    }
    let pom = Path::new(env!("CARGO_MANIFEST_DIR")).join("kafka/pom.xml");
    for attempt in 1..=3 {
        eprintln!("fetching Apache Kafka {KAFKA} from Maven (attempt {attempt})");
        let status = Command::new("mvn")
            .args(["-B", "-q", "-f"])
            .arg(&pom)
            .arg("dependency:copy-dependencies")
            .arg(format!("-DoutputDirectory={}", libs.display()))
            .status()
            .map_err(|error| {
                format!("cannot run mvn: {error}; it fetches Kafka, or name the jars with --kafka-libs")
            })?;
        if status.success() {
            fs::write(whole, "")?;
            return Ok(libs);
        }
    }
    Err("Maven could not fetch Kafka".into())
}

/// Writes the configuration of a log on standard output into a node's folder.
///
/// # Errors
/// It cannot be written.
pub fn write_log_config(folder: &Path) -> Result<()> {
    fs::write(
        folder.join("log4j2.xml"),
        "<Configuration><Appenders><Console name=\"O\"><PatternLayout pattern=\"[%d] %p %m (%c)%n\"/></Console></Appenders>\
         <Loggers><Root level=\"INFO\"><AppenderRef ref=\"O\"/></Root></Loggers></Configuration>",
    )?;
    Ok(())
}

/// Starts the node whose `server.properties` lies in `folder`.
pub fn command(libs: &Path, folder: &Path) -> Command {
    let mut command = Command::new("java");
    command.args(JVM).arg(format!("-Dlog4j2.configurationFile={}", folder.join("log4j2.xml").display()));
    command.args(["-cp", &format!("{}/*", libs.display()), "kafka.Kafka"]).arg(folder.join("server.properties"));
    command
}
