//! A real `esker` for a test: started on free ports, found by its ready line, ended by its own process id.
//!
//! Nothing here waits for a time: it waits for a line, an answer or an end, with a deadline that only a failure reaches.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test fails by a panic

pub mod cluster;
pub mod collector;
pub mod history;
pub mod http;
mod moves;
mod reads;
pub mod topics;
pub mod wire;
pub mod writer;

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use esker_protocol::{Request, decode_response, encode_request};

/// Asks over a plain socket and waits for the answer.
pub fn ask<R: Request>(stream: &mut TcpStream, version: i16, request: &R) -> R::Response {
    let id = 7;
    let bytes = encode_request(version, id, Some("test".into()), request).expect("it can be encoded").into_bytes();
    stream.write_all(&bytes).expect("the broker takes it");
    read_answer::<R>(stream, version, id)
}

/// Reads the answer to a request that was sent with this version and correlation id.
pub fn read_answer<R: Request>(stream: &mut TcpStream, version: i16, id: i32) -> R::Response {
    let mut size = [0; 4];
    stream.read_exact(&mut size).expect("the broker answers");
    let mut frame = vec![0; usize::try_from(i32::from_be_bytes(size)).expect("a size")];
    stream.read_exact(&mut frame).expect("the broker answers");
    let (got, response) = decode_response::<R>(version, frame.into()).expect("it can be decoded");
    assert_eq!(got, id);
    response
}

/// The value of a metric in the text of a scrape, with exactly these labels; 0 if it is not there.
pub fn metric_in(scrape: &str, name_and_labels: &str) -> f64 {
    let value = scrape.lines().find_map(|line| line.strip_prefix(name_and_labels)?.trim().parse().ok());
    value.unwrap_or(0.0)
}

/// Status and body of an HTTP answer, `None` where nobody answers.
pub fn http_answer(address: SocketAddr, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let status = answer.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    Some((status, answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default()))
}

/// How long anything may take before it counts as stuck.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The binary under test: `ESKER_BIN`, else the one that lies beside this test's own build.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("ESKER_BIN") {
        return PathBuf::from(path);
    }
    let own = std::env::current_exe().expect("a test knows its own path");
    let built = own.ancestors().find(|dir| dir.join("esker").is_file()).map(|dir| dir.join("esker"));
    built.expect("no esker binary: run `cargo build` or set ESKER_BIN")
}

/// A host of loopback that no other broker of any test has. A client whose broker was killed goes on trying its address for a while: on a
/// shared host the kernel may have given the port to the broker of another test by then, and the client would write to that one.
pub fn own_host() -> Ipv4Addr {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let [.., high, low] = std::process::id().to_be_bytes();
    let count = 1 + COUNT.fetch_add(1, Ordering::Relaxed) % 254;
    Ipv4Addr::new(127, high & 0x7f, low, u8::try_from(count).expect("254 at most"))
}

/// Any port of a host of its own, for `--listen`.
pub fn listen_anywhere() -> String {
    SocketAddr::from((own_host(), 0)).to_string()
}

fn read_log(log: &File) -> String {
    let mut bytes = Vec::new();
    let mut part = [0; 64 << 10];
    // The broker writes at the file's own position, which this must not move.
    while let Ok(read @ 1..) = log.read_at(&mut part, bytes.len() as u64) {
        bytes.extend_from_slice(&part[..read]);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A running broker; it is killed when dropped.
#[derive(Debug)]
pub struct Esker {
    child: Child,
    /// What it logs, told if the test fails.
    log: File,
    /// Where Kafka clients connect.
    pub kafka: SocketAddr,
    /// Where HTTP listens.
    pub http: SocketAddr,
    /// The ready line.
    pub ready: String,
    /// From exec to the ready line.
    pub took: Duration,
}

impl Esker {
    /// Starts one on a data folder, on free ports.
    pub fn start(data: &Path) -> Self {
        Self::start_with(data, &[])
    }

    /// Starts one with more flags.
    pub fn start_with(data: &Path, flags: &[&str]) -> Self {
        let (data, listen) = (data.display().to_string(), listen_anywhere());
        let mut all = vec!["serve", "--data-dir", &data, "--http", "127.0.0.1:0"];
        if !flags.contains(&"--listen") {
            all.extend(["--listen", &listen]);
        }
        all.extend(flags);
        Self::spawn(&all)
    }

    /// Starts one with exactly these arguments.
    pub fn spawn(arguments: &[&str]) -> Self {
        let mut command = Command::new(binary());
        command.args(arguments);
        Self::run(command)
    }

    /// Starts one of another build with exactly these arguments.
    pub fn spawn_build(build: &Path, arguments: &[&str]) -> Self {
        let mut command = Command::new(build);
        command.args(arguments);
        Self::run(command)
    }

    /// Starts one with exactly these arguments that may have so many files open.
    pub fn spawn_with_open_files(most: usize, arguments: &[&str]) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit -n {most} && exec \"$0\" \"$@\"")]).arg(binary()).args(arguments);
        Self::run(command)
    }

    /// Starts one on a file system in memory of so many bytes, mounted over `data` where only it sees it. `None` where mounting
    /// is not allowed.
    pub fn on_small_disk(data: &Path, bytes: u64) -> Option<Self> {
        let mut command = Self::mounted(data, &format!("mount -t tmpfs -o size={bytes} tmpfs \"$0\""))?;
        command.args(["serve", "--listen", &listen_anywhere(), "--http", "127.0.0.1:0"]);
        command.arg("--set").arg(format!("log.dirs={}", data.display()));
        Some(Self::run(command))
    }

    /// Starts one with two log dirs, of which the second lies on a disk that breaks once so many bytes are written to it: a file system
    /// on a loop device, whose file has no more room. `None` where mounting is not allowed.
    pub fn on_breaking_disk(dir: &Path, bytes: u64) -> Option<(Self, [PathBuf; 2])> {
        let (mut command, log_dirs) = Self::command_on_breaking_disk(dir, bytes)?;
        command.args(["serve", "--listen", &listen_anywhere(), "--http", "127.0.0.1:0"]);
        let dirs: Vec<String> = log_dirs.iter().map(|dir| dir.display().to_string()).collect();
        command.arg("--set").arg(format!("log.dirs={}", dirs.join(",")));
        Some((Self::run(command), log_dirs))
    }

    /// As [`Esker::on_breaking_disk`], with exactly these arguments. `good` and `bad` in `dir` are the log dirs.
    pub fn spawn_on_breaking_disk(dir: &Path, bytes: u64, arguments: &[&str]) -> Option<Self> {
        let (mut command, _) = Self::command_on_breaking_disk(dir, bytes)?;
        command.args(arguments);
        Some(Self::run(command))
    }

    /// The disk of [`Esker::spawn_on_breaking_disk`] takes nothing any more: its file is empty, and has no room.
    pub fn break_disk(&self, dir: &Path) {
        // Only the process sees what is mounted.
        let root = PathBuf::from(format!("/proc/{}/root", self.pid()));
        let device = root.join(dir.strip_prefix("/").expect("an absolute folder")).join("device");
        File::create(device.join("disk")).expect("the device's file can be emptied");
        let mut fill = File::create(device.join("fill")).expect("a file");
        while fill.write_all(&[1; 4096]).is_ok() {}
    }

    fn command_on_breaking_disk(dir: &Path, bytes: u64) -> Option<(Command, [PathBuf; 2])> {
        let [good, bad] = ["good", "bad"].map(|name| dir.join(name));
        for folder in [&good, &bad, &dir.join("device")] {
            std::fs::create_dir_all(folder).expect("a folder");
        }
        let mount = format!(
            "mount -t tmpfs -o size={bytes} tmpfs \"$0/device\" && truncate -s 256M \"$0/device/disk\" && \
             mkfs.ext4 -q -m 0 -J size=4 -E nodiscard,lazy_itable_init=1,lazy_journal_init=1 \"$0/device/disk\" && \
             mount -o loop \"$0/device/disk\" \"$0/bad\""
        );
        Some((Self::mounted(dir, &mount)?, [good, bad]))
    }

    /// The command of a broker that sees what a shell script mounts, and that nobody else sees; `dir` is the script's `$0`.
    fn mounted(dir: &Path, mount: &str) -> Option<Command> {
        let flags = ["-m", "-Urm"].into_iter().find(|flags| {
            let status =
                Command::new("unshare").arg(flags).args(["sh", "-c", mount]).arg(dir).stderr(Stdio::null()).status();
            status.is_ok_and(|status| status.success())
        })?;
        let mut command = Command::new("unshare");
        // Each of them becomes the next: the process id stays.
        command.arg(flags).args(["sh", "-c", &format!("{mount} && exec \"$@\"")]).arg(dir).arg(binary());
        Some(command)
    }

    fn run(mut command: Command) -> Self {
        let from = Instant::now();
        clear_environment(&mut command);
        let mut log = tempfile::tempfile().expect("a file for its log");
        let stderr = log.try_clone().expect("a second handle of it");
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr).spawn().expect("esker starts");
        let mut ready = String::new();
        let stdout = child.stdout.take().expect("stdout is piped");
        let (is_ready, awaits_ready) = mpsc::channel::<()>();
        let pid = child.id().to_string();
        std::thread::spawn(move || {
            if awaits_ready.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout) {
                // The line that is waited for is empty then.
                let _ = Command::new("kill").args(["-9", &pid]).status();
            }
        });
        BufReader::new(stdout).read_line(&mut ready).expect("a ready line");
        drop(is_ready);
        if ready.is_empty() {
            tell(&mut log);
        }
        let took = from.elapsed();
        let field = |name: &str| {
            let value = ready.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
            value.unwrap_or_else(|| panic!("no {name} in the ready line {ready:?}"))
        };
        let (kafka, http) = (field("kafka").parse().expect("an address"), field("http").parse().expect("an address"));
        Self { child, log, kafka, http, ready: ready.trim_end().to_owned(), took }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal, by the name that `kill` knows it by.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("sh").args(["-c", &format!("kill -{name} {}", self.pid())]).status();
        assert!(sent.expect("a shell is there").success(), "SIG{name} cannot be sent");
    }

    /// A word of the ready line, by its name.
    pub fn ready_field(&self, name: &str) -> &str {
        let value = self.ready.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        value.unwrap_or_else(|| panic!("no {name} in the ready line {:?}", self.ready))
    }

    /// A new connection to the Kafka port.
    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.kafka).expect("the port is open");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out can be set");
        stream
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        read_log(&self.log)
    }

    /// Reads what it has logged, also after its end.
    pub fn log_reader(&self) -> impl Fn() -> String + use<> {
        let log = self.log.try_clone().expect("the log can be opened again");
        move || read_log(&log)
    }

    /// The body of an HTTP answer.
    pub fn http_get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.http).expect("the HTTP port is open");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .expect("it takes a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
        answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default()
    }

    /// The value of a metric with exactly these labels, 0 if it is not there.
    pub fn metric(&self, name_and_labels: &str) -> f64 {
        metric_in(&self.http_get("/metrics"), name_and_labels)
    }

    /// kill -9, and waits for the end.
    pub fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }

    /// SIGTERM, and waits for the end.
    pub fn terminate(self) -> ExitStatus {
        self.end_by(&["TERM"])
    }

    /// These signals, right after each other, and waits for the end.
    pub fn end_by(self, signals: &[&str]) -> ExitStatus {
        let pid = self.pid();
        // The shell's own `kill`: no process is started between two of them. The second may find that it has ended.
        let script: Vec<String> = signals.iter().map(|signal| format!("kill -{signal} {pid}")).collect();
        let sent = Command::new("sh").args(["-c", &script.join("; ")]).stderr(Stdio::null()).status();
        sent.expect("a shell is there");
        self.wait_for_end()
    }

    /// Waits until it ends by itself.
    pub fn wait_for_end(mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("its end can be awaited") {
                return status;
            }
            assert!(Instant::now() < deadline, "it does not stop");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// kB of a line of `/proc/PID/status`.
    pub fn memory_kb(&self, line: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let found = status.lines().find_map(|l| l.strip_prefix(line)?.strip_prefix(':'));
        found.and_then(|rest| rest.trim().trim_end_matches(" kB").trim().parse().ok()).unwrap_or_default()
    }
}

impl Drop for Esker {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            tell(&mut self.log);
        }
    }
}

/// The broker reads ESKER_ and KAFKA_ variables as configs: those of the tests are not for it.
fn clear_environment(command: &mut Command) {
    let is_config = |name: &str| ["ESKER_", "KAFKA_"].iter().any(|prefix| name.starts_with(prefix));
    for (name, _) in std::env::vars_os().filter(|(name, _)| is_config(&name.to_string_lossy())) {
        command.env_remove(name);
    }
}

/// The last lines of a broker's log.
fn tell(log: &mut File) {
    let mut bytes = Vec::new();
    let _ = log.rewind().and_then(|()| log.read_to_end(&mut bytes));
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    eprintln!("--- the broker's log\n{}\n---", lines[lines.len().saturating_sub(60)..].join("\n"));
}
