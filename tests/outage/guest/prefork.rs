//! The outage's workload: a prefork server whose children grow. It runs as `apache2` in the virtual machine.
//!
//! The parent starts itself as a child until there are `MAXIMUM` children (Apache's `MaxRequestWorkers`), and replaces
//! killed ones. A child allocates more memory with each request, up to `MEBIBYTES`, and keeps accessing all of it: once all
//! children together need more than the machine has, it only swaps.

use std::{
    env,
    process::{Child, Command},
    thread::sleep,
    time::Duration,
};

const BETWEEN_FORKS: Duration = Duration::from_millis(300);
const BETWEEN_REQUESTS: Duration = Duration::from_millis(300);
const PAGE: usize = 4096;
/// Memory that a request adds while the child may grow, and that it uses of the existing memory: 2 MiB.
const REQUEST: usize = 512 * PAGE;

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
            // This may fail while memory is short; the next round retries.
            let started = Command::new(&program).spawn();
            children.extend(started);
        }
        sleep(BETWEEN_FORKS);
    }
}

fn child(mebibytes: usize) -> ! {
    let mut held: Vec<Vec<u8>> = Vec::new();
    let mut oldest = 0;
    loop {
        if held.len() * REQUEST < mebibytes << 20 {
            held.push(vec![0; REQUEST]);
        }
        oldest = (oldest + 1) % held.len();
        for page in held[oldest].chunks_mut(PAGE) {
            page[0] = page[0].wrapping_add(1);
        }
        sleep(BETWEEN_REQUESTS);
    }
}
