//! Starts `cloud.py`, and runs a test in a process of its own whose environment leads the SDK to it.

use std::{
    env,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::PathBuf,
    process::{Command, Stdio},
};

/// Set in the process that is led: the port.
const PORT: &str = "MAGPIE_TEST_EC2_PORT";

/// Runs `test`, which is the test function `name`, against a cloud of its own.
pub(crate) fn with_cloud(name: &str, test: impl AsyncFnOnce(Calls)) {
    if let Ok(port) = env::var(PORT) {
        let calls = Calls { port: port.parse().expect("a port") };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        return runtime.expect("a runtime").block_on(test(calls));
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/ec2/cloud.py");
    let mut cloud = Command::new(python())
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the cloud starts");
    let mut port = String::new();
    let said = BufReader::new(cloud.stdout.as_mut().expect("piped")).read_line(&mut port);
    said.expect("its port");
    let port = port.trim();
    let endpoint = format!("http://127.0.0.1:{port}");
    let led = Command::new(env::current_exe().expect("this test"))
        .args(["--exact", name, "--nocapture"])
        .envs([
            (PORT, port),
            ("AWS_ENDPOINT_URL", &endpoint),
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
            ("AWS_EC2_METADATA_DISABLED", "true"),
            ("AWS_CONFIG_FILE", "/dev/null"),
            ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"),
        ])
        .status();
    drop(cloud.stdin.take());
    cloud.wait().expect("the cloud ends with its standard input");
    assert!(led.expect("this test starts").success(), "see above");
}

/// What `make prerequisites-test` has put beside the build's profiles.
fn python() -> PathBuf {
    let exe = env::current_exe().expect("this test");
    let target = exe.ancestors().nth(3).expect("target/<profile>/deps/<test>");
    let python = target.join("moto/bin/python");
    assert!(python.is_file(), "{} is not there: run `make prerequisites-test` first", python.display());
    python
}

/// The calls that reached the cloud.
#[derive(Clone, Copy)]
pub(crate) struct Calls {
    port: u16,
}

impl Calls {
    /// Those since the last time, in order.
    pub(crate) fn take(self) -> Vec<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("connected");
        stream.write_all(b"GET /calls HTTP/1.0\r\n\r\n").expect("asked");
        let mut reply = String::new();
        stream.read_to_string(&mut reply).expect("answered");
        let (_, body) = reply.split_once("\r\n\r\n").expect("a body");
        serde_json::from_str(body).expect("a list")
    }
}
