//! The processes of one sample as rows: rates, order, tree, filter.

use std::collections::{HashMap, HashSet};

use record::{Process, Sample};

use super::View;
use crate::record::rates::{Before, Rates};

/// One process on the screen.
#[derive(Clone, Debug)]
pub(crate) struct Row<'a> {
    /// The process.
    pub process: &'a Process,
    /// Activity since the previous sample.
    pub rates: Rates,
    /// Tree lines that lead to the parent; empty unless a tree is shown.
    pub branch: String,
    /// Does not match the filter; shown only because a descendant does.
    pub aside: bool,
}

/// The rows of a sample in display order. `past` is what preceded it, oldest first; without it there are no rates.
pub(crate) fn rows<'a, 'b>(
    past: impl IntoIterator<Item = &'b Sample>,
    sample: &'a Sample,
    view: &View,
) -> Vec<Row<'a>> {
    let mut before: Option<Before> = None;
    for sample in past {
        before.get_or_insert_default().keep(sample);
    }
    let rates: Vec<_> = match before {
        Some(before) => before.rates(sample).collect(),
        None => vec![Rates::default(); sample.processes.len()],
    };
    let row = |(process, rates): (&'a Process, Rates)| {
        let aside = !view.admits(process);
        Row { process, rates, branch: String::new(), aside }
    };
    let mut rows: Vec<_> = sample.processes.iter().zip(rates).map(row).collect();
    // Order equals by identity, so that they do not jump around.
    rows.sort_by(|a, b| {
        let order = view.sort.compare((a.process, &a.rates), (b.process, &b.rates));
        order.then(a.process.identity.cmp(&b.process.identity))
    });
    if view.tree {
        return tree(rows);
    }
    rows.retain(|row| !row.aside);
    rows
}

/// Puts children below their parents. A row that does not match the filter stays if a descendant matches.
fn tree(rows: Vec<Row>) -> Vec<Row> {
    let place: HashMap<u32, usize> =
        rows.iter().enumerate().map(|(index, row)| (row.process.identity.pid, index)).collect();
    let parent =
        |row: &Row| place.get(&row.process.parent).copied().filter(|parent| is_older(&rows[*parent], row));
    let (mut roots, mut children) = (Vec::new(), vec![Vec::new(); rows.len()]);
    let mut shown = HashSet::new();
    for (index, row) in rows.iter().enumerate() {
        match parent(row) {
            Some(parent) => children[parent].push(index),
            None => roots.push(index),
        }
        let mut line = (!row.aside).then_some(index);
        while let Some(index) = line.filter(|index| shown.insert(*index)) {
            line = parent(&rows[index]);
        }
    }
    children.iter_mut().chain([&mut roots]).for_each(|list| list.retain(|index| shown.contains(index)));
    let order = walk(&roots, &children);
    let mut rows: Vec<_> = rows.into_iter().map(Some).collect();
    let place = |(index, branch): (usize, String)| Some(Row { branch, ..rows[index].take()? });
    order.into_iter().filter_map(place).collect()
}

/// Whether a process can be the parent: a younger process has only reused the parent's pid.
fn is_older(parent: &Row, child: &Row) -> bool {
    let (parent, child) = (parent.process.identity, child.process.identity);
    parent.started_ns <= child.started_ns && parent.pid != child.pid
}

/// Every row with its tree lines, parents first. Not recursive: process trees may be deeper than the stack allows.
fn walk(roots: &[usize], children: &[Vec<usize>]) -> Vec<(usize, String)> {
    let mut order = Vec::new();
    let mut left: Vec<_> = roots.iter().rev().map(|root| (*root, String::new(), String::new())).collect();
    let mut seen = HashSet::new();
    while let Some((index, branch, below)) = left.pop() {
        if !seen.insert(index) {
            continue;
        }
        for (place, child) in children[index].iter().rev().enumerate() {
            let (fork, line) = if place == 0 { ("└ ", "  ") } else { ("├ ", "│ ") };
            // Deeper lines would only push the command off the screen.
            let below = if below.chars().count() >= 32 { below.clone() } else { format!("{below}{line}") };
            let stem: String = below.chars().take(below.chars().count().saturating_sub(2)).collect();
            left.push((*child, format!("{stem}{fork}"), below));
        }
        order.push((index, branch));
    }
    order
}
