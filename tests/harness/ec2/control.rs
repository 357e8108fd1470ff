//! Minimal HTTP client for the lab's endpoints: one request per connection, JSON in both directions.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpStream},
};

use serde_json::Value;

/// Sends a request to the lab at `port`, and expects status 200.
#[track_caller]
pub(super) fn ask(port: u16, method: &str, name: &str, sent: &Value) -> Value {
    let body = sent.to_string();
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("the lab listens");
    let head = format!(
        "{method} /magpie-lab/{name} HTTP/1.0\r\nHost: lab\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("received");
    let (head, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer");
    assert!(head.lines().next().is_some_and(|line| line.contains(" 200 ")), "{method} {name}: {answer}");
    serde_json::from_str(body).expect("JSON")
}
