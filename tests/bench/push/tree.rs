//! The tree to push, in a git repository as usual.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::Result;

const FILES: usize = 3_000;
/// Every tenth file does not compress.
const OPAQUE_BYTES: usize = 40_000;
const TEXT_BYTES: usize = 2_960;

/// Approximate total size in bytes.
pub(crate) const BYTES: usize = FILES / 10 * OPAQUE_BYTES + FILES * 9 / 10 * TEXT_BYTES;

/// Creates the tree in the new directory `root`, always the same.
pub(crate) fn make(root: &Path) -> Result<()> {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for index in 0..FILES {
        let module = root.join(format!("modules/module{}/manifests", index / 30));
        fs::create_dir_all(&module)?;
        let content = if index % 10 == 0 { opaque(&mut random) } else { text(index, &mut random) };
        fs::write(module.join(format!("class{index}.pp")), content)?;
    }
    fs::create_dir_all(root.join("manifests"))?;
    fs::write(root.join("manifests/site.pp"), "node default {}\n")?;
    let commit =
        "git init -q . && git add . && git -c user.name=bench -c user.email=bench@localhost commit -qm tree";
    let committed = Command::new("sh").args(["-c", commit]).current_dir(root).status()?;
    if committed.success() { Ok(()) } else { Err("cannot commit the tree".into()) }
}

/// Changes one file, a different one in each round; returns its path.
pub(crate) fn change_one(root: &Path, round: usize) -> Result<PathBuf> {
    let index = 1001 + round;
    let path = PathBuf::from(format!("modules/module{}/manifests/class{index}.pp", index / 30));
    let mut text = fs::read_to_string(root.join(&path))?;
    text.push_str(&format!("# changed by {:?}\n", std::time::SystemTime::now()));
    fs::write(root.join(&path), text)?;
    Ok(path)
}

/// Text that resembles a Puppet class.
fn text(index: usize, random: &mut u64) -> Vec<u8> {
    let mut text = format!("class module::class{index} {{\n");
    while text.len() < TEXT_BYTES {
        let number = next(random);
        text.push_str(&format!(
            "  file {{ '/etc/service{}/part{:x}.conf':\n    ensure  => file,\n    mode    => '0644',\n    content => template('module/{:x}.erb'),\n    notify  => Service['service{}'],\n  }}\n",
            number % 97, number >> 40, number & 0xffff, number % 97
        ));
    }
    text.push_str("}\n");
    text.into_bytes()
}

fn opaque(random: &mut u64) -> Vec<u8> {
    (0..OPAQUE_BYTES / 8).flat_map(|_| next(random).to_le_bytes()).collect()
}

/// Marsaglia's xorshift64*.
fn next(state: &mut u64) -> u64 {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    state.wrapping_mul(0x2545_f491_4f6c_dd1d)
}
