//! The outage's workload: a prefork server whose children grow. It runs as `apache2` in the virtual machine.
//!
//! The parent keeps starting itself as a child until there are `MAXIMUM` of them (Apache's `MaxRequestWorkers`), and
//! replaces each that was killed. A child takes one more MiB for each request that it serves, up to `MEBIBYTES`, and each
//! request touches all of it: once that is more than there is memory, nothing but swapping goes on.

use std::{
    env,
    process::{Child, Command},
    thread::sleep,
    time::Duration,
};

const BETWEEN_FORKS: Duration = Duration::from_millis(300);
const BETWEEN_REQUESTS: Duration = Duration::from_millis(50);
const MEBIBYTE: usize = 1 << 20;
const PAGE: usize = 4096;

fn main() {
    if env::args().nth(1).as_deref() == Some("-k") {
        parent(number("MAXIMUM"));
    }
    child(number("MEBIBYTES"));
}

fn number(name: &str) -> usize {
    let text = env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
    text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number"))
}

fn parent(maximum: usize) -> ! {
    // By its own name, which becomes the child's.
    let program = env::current_exe().expect("the path of this program");
    let mut children: Vec<Child> = Vec::new();
    loop {
        children.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
        if children.len() < maximum {
            // It may well fail while memory is short; the next round tries again.
            let started = Command::new(&program).spawn();
            children.extend(started);
        }
        sleep(BETWEEN_FORKS);
    }
}

fn child(mebibytes: usize) -> ! {
    let mut held: Vec<Vec<u8>> = Vec::new();
    loop {
        if held.len() < mebibytes {
            held.push(vec![0; MEBIBYTE]);
        }
        for page in held.iter_mut().flat_map(|block| block.chunks_mut(PAGE)) {
            page[0] = page[0].wrapping_add(1);
        }
        sleep(BETWEEN_REQUESTS);
    }
}
