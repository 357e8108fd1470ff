//! A process that behaves as told, under any name: `mysqld hold 90`, `apache2 pool 40 12`. What it does is its first
//! argument, so a record shows it; the verdict sees only what it uses.

use std::{
    env,
    fs::{File, OpenOptions},
    io::{Read, Seek, SeekFrom, Write},
    os::unix::process::CommandExt,
    process::{Child, Command},
    thread::{self, sleep},
    time::{Duration, Instant},
};

const PAGE: usize = 4096;
const MIB: usize = 1 << 20;
/// Time between two actions.
const TICK: Duration = Duration::from_millis(100);

fn main() {
    let arguments: Vec<String> = env::args().collect();
    let number = |index: usize| -> usize {
        let text = arguments.get(index).map_or("0", String::as_str);
        text.parse().unwrap_or_else(|_| panic!("{text} is not a number"))
    };
    let text = |index: usize| arguments.get(index).map_or("", String::as_str);
    match text(1) {
        // MiB: constant.
        "hold" => grow(number(2), number(2)),
        // MiB at the start, MiB at most, KiB per second.
        "grow" => grow_slowly(number(2), number(3), number(4)),
        // Number, MiB each, ms between two starts.
        "pool" => pool(&arguments[0], number(2), number(3), number(4)),
        // Thousandths of a CPU, MiB, seconds (0: for ever).
        "spin" => spin(number(2), number(3), number(4)),
        // Thousandths of a CPU at first, seconds until it changes, thousandths from then on.
        "change" => change(number(2), number(3), number(4)),
        // Children per second, each of which uses some ms of CPU time.
        "storm" => storm(&arguments[0], number(2)),
        // Path, MiB per second, MiB at most, 1: to the disk at once.
        "write" => write(text(2), number(3), number(4), number(5) == 1),
        // Path: again and again.
        "read" => read(text(2)),
        // Number of threads.
        "threads" => threads(number(2)),
        // MiB at once, then the end after this many ms.
        "spike" => spike(number(2), number(3)),
        other => panic!("{other} is not something to do"),
    }
}

/// Memory that was written to.
fn allocate(mib: usize) -> Vec<u8> {
    let mut memory = vec![0_u8; mib * MIB];
    touch(&mut memory);
    memory
}

/// Writes to every page, so that it is in memory and not shared; its content does not compress to nothing.
fn touch(memory: &mut [u8]) {
    for (index, page) in memory.chunks_mut(PAGE).enumerate() {
        page[0] = page[0].wrapping_add(index as u8).wrapping_add(1);
    }
}

fn grow(from: usize, _until: usize) -> ! {
    let mut memory = allocate(from);
    loop {
        // Touches a part, as a server that is in use does.
        let part = memory.len() / 16;
        touch(&mut memory[..part]);
        sleep(10 * TICK);
    }
}

fn grow_slowly(from: usize, most: usize, kib_per_s: usize) -> ! {
    let mut held = vec![allocate(from)];
    let mut kib = from * 1024;
    loop {
        let step = kib_per_s / 10;
        if kib < most * 1024 {
            let mut more = vec![0_u8; step * 1024];
            touch(&mut more);
            held.push(more);
            kib += step;
        }
        sleep(TICK);
    }
}

fn pool(own: &str, most: usize, mib: usize, pause_ms: usize) -> ! {
    let mut children: Vec<Child> = Vec::new();
    loop {
        children.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
        if children.len() < most {
            let mib = mib.to_string();
            // Under the parent's own name; this may fail while memory is short.
            children.extend(Command::new(own).arg0(own).args(["hold", &mib]).spawn());
        }
        sleep(Duration::from_millis(pause_ms as u64));
    }
}

/// Uses a CPU for this share of a tick.
fn burn(permille: usize) {
    let begun = Instant::now();
    let busy = TICK.mul_f64(permille as f64 / 1_000.0);
    let mut number = 1_u64;
    while begun.elapsed() < busy {
        for _ in 0..1_000 {
            number = std::hint::black_box(number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
        }
    }
    sleep(TICK.saturating_sub(begun.elapsed()));
}

fn spin(permille: usize, mib: usize, seconds: usize) {
    let _memory = allocate(mib);
    let begun = Instant::now();
    while seconds == 0 || begun.elapsed() < Duration::from_secs(seconds as u64) {
        burn(permille);
    }
}

fn change(before: usize, seconds: usize, after: usize) -> ! {
    let begun = Instant::now();
    loop {
        burn(if begun.elapsed() < Duration::from_secs(seconds as u64) { before } else { after });
    }
}

fn storm(own: &str, per_s: usize) -> ! {
    let pause = Duration::from_secs(1) / u32::try_from(per_s.max(1)).expect("a small number");
    loop {
        let begun = Instant::now();
        if let Ok(mut child) = Command::new(own).arg0("grep").args(["spin", "120", "0", "0"]).spawn() {
            sleep(Duration::from_millis(12));
            let _ = child.kill();
            let _ = child.wait();
        }
        sleep(pause.saturating_sub(begun.elapsed()));
    }
}

fn write(path: &str, mib_per_s: usize, most: usize, at_once: bool) -> ! {
    let mut file = File::create(path).expect("a writable path");
    let block = allocate(1);
    let mut written = 0;
    loop {
        let begun = Instant::now();
        for _ in 0..mib_per_s {
            if most > 0 && written >= most {
                if !at_once {
                    break;
                }
                let _ = file.seek(SeekFrom::Start(0));
                written = 0;
            }
            if file.write_all(&block).is_ok() {
                written += 1;
            }
            if at_once {
                let _ = file.sync_data();
            }
        }
        sleep(Duration::from_secs(1).saturating_sub(begun.elapsed()));
    }
}

fn read(path: &str) -> ! {
    let mut block = vec![0_u8; MIB];
    loop {
        let mut file = OpenOptions::new().read(true).open(path).expect("a readable path");
        while file.read(&mut block).is_ok_and(|count| count > 0) {}
    }
}

fn threads(number: usize) -> ! {
    for _ in 0..number {
        // A limit may refuse it; it is tried again.
        while thread::Builder::new()
            .stack_size(64 << 10)
            .spawn(|| {
                loop {
                    sleep(100 * TICK)
                }
            })
            .is_err()
        {
            sleep(5 * TICK);
        }
        sleep(TICK);
    }
    loop {
        sleep(100 * TICK);
    }
}

fn spike(mib: usize, milliseconds: usize) {
    let _memory = allocate(mib);
    sleep(Duration::from_millis(milliseconds as u64));
}
