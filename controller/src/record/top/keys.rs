//! Key bindings.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use record::Identity;

use super::{Action, Popup, State, place::Place, request::Purpose};
use crate::record::selection::Sort;

const MINUTE_MS: i64 = 60_000;

impl State {
    /// Handles a key press.
    pub(crate) fn key(&mut self, event: KeyEvent) -> Action {
        if event.kind == KeyEventKind::Release {
            return Action::Show;
        }
        if event.modifiers.contains(KeyModifiers::CONTROL) {
            return if event.code == KeyCode::Char('c') { Action::Quit } else { Action::Show };
        }
        self.notice = None;
        if self.popup == Popup::Filter {
            return self.type_filter(event.code);
        }
        let minute = event.modifiers.contains(KeyModifiers::SHIFT);
        match event.code {
            KeyCode::Left if minute => self.jump(-MINUTE_MS),
            KeyCode::Right if minute => self.jump(MINUTE_MS),
            KeyCode::Left => self.back(),
            KeyCode::Right => self.forward(),
            KeyCode::Char('[') => self.jump(-MINUTE_MS),
            KeyCode::Char(']') => self.jump(MINUTE_MS),
            KeyCode::PageUp => self.jump(-10 * MINUTE_MS),
            KeyCode::PageDown => self.jump(10 * MINUTE_MS),
            KeyCode::Home => self.begin(),
            KeyCode::End => self.end(),
            KeyCode::Char(' ') if self.timeline.is_live() => self.look_at(self.timeline.cursor()),
            KeyCode::Char(' ') => self.end(),
            KeyCode::Char('n') => self.next_mark(),
            KeyCode::Char('N') => self.previous_mark(),
            KeyCode::Char('q') => Action::Quit,
            code => self.change_view(code),
        }
    }

    /// Keys that change how the current sample is shown.
    fn change_view(&mut self, code: KeyCode) -> Action {
        match code {
            KeyCode::Char('c') => self.view.sort = Sort::Cpu,
            KeyCode::Char('r') => self.view.sort = Sort::Rss,
            KeyCode::Char('s') => self.view.sort = Sort::Swap,
            KeyCode::Char('f') => self.view.sort = Sort::Footprint,
            KeyCode::Char('i') => self.view.sort = Sort::Io,
            KeyCode::Char('t') => self.view.tree = !self.view.tree,
            KeyCode::Char('/') => self.popup = Popup::Filter,
            KeyCode::Char('?') | KeyCode::F(1) => self.toggle(Popup::Help),
            KeyCode::Up | KeyCode::Char('k') => self.select(-1),
            KeyCode::Down | KeyCode::Char('j') => self.select(1),
            KeyCode::Enter => self.details(),
            KeyCode::Esc => self.escape(),
            _ => {}
        }
        Action::Show
    }

    fn type_filter(&mut self, code: KeyCode) -> Action {
        match code {
            KeyCode::Char(c) => self.view.filter.push(c),
            KeyCode::Backspace => {
                self.view.filter.pop();
            }
            KeyCode::Enter => self.popup = Popup::Nothing,
            KeyCode::Esc => {
                self.view.filter.clear();
                self.popup = Popup::Nothing;
            }
            _ => {}
        }
        Action::Show
    }

    fn toggle(&mut self, popup: Popup) {
        self.popup = if self.popup == popup { Popup::Nothing } else { popup };
    }

    /// Closes the popup, else clears the selection, else the filter.
    fn escape(&mut self) {
        if self.popup != Popup::Nothing {
            self.popup = Popup::Nothing;
        } else if self.view.selected.take().is_none() {
            self.view.filter.clear();
        }
    }

    fn details(&mut self) {
        let first = || self.rows().first().map(|row| row.process.identity);
        match (self.popup, self.view.selected.or_else(first)) {
            (Popup::Nothing, Some(identity)) => {
                self.view.selected = Some(identity);
                self.popup = Popup::Details(identity);
            }
            _ => self.popup = Popup::Nothing,
        }
    }

    fn select(&mut self, step: isize) {
        let rows: Vec<Identity> = self.rows().iter().map(|row| row.process.identity).collect();
        let place = |identity| rows.iter().position(|row| *row == identity);
        let next = match self.view.selected.and_then(place) {
            Some(index) => index.saturating_add_signed(step).min(rows.len().saturating_sub(1)),
            None => 0,
        };
        self.view.selected = rows.get(next).copied();
        if let (Popup::Details(_), Some(identity)) = (self.popup, self.view.selected) {
            self.popup = Popup::Details(identity);
        }
    }

    fn look_at(&mut self, index: usize) -> Action {
        self.timeline.look_at(index);
        self.settle()
    }

    fn back(&mut self) -> Action {
        let Some(first) = self.timeline.get(0) else { return Action::Show };
        let (place, at_ms) = (Place::of(first), first.wall_ms);
        match self.timeline.cursor() {
            0 if self.timeline.has_oldest() => {
                self.at_oldest();
                Action::Show
            }
            0 => {
                self.timeline.look_at(0);
                // The end is the place, not a time: the clock may have been ahead before it.
                self.ask_once(at_ms.saturating_sub(2 * self.reach_ms()), i64::MAX, Purpose::Before(place))
            }
            cursor => self.look_at(cursor - 1),
        }
    }

    fn forward(&mut self) -> Action {
        let next = self.timeline.cursor() + 1;
        if next < self.timeline.len() {
            return self.look_at(next);
        }
        let Some(last) = self.timeline.current().filter(|_| !self.timeline.has_newest()) else {
            return self.end();
        };
        let (place, from_ms) = (Place::of(last), last.wall_ms);
        self.ask_once(from_ms, i64::MAX, Purpose::After(place))
    }

    /// Ignores repeats: a key that is held down requests the same again and again.
    fn ask_once(&mut self, from_ms: i64, until_ms: i64, purpose: Purpose) -> Action {
        match self.pending {
            Some(pending) if pending.purpose == purpose => Action::Show,
            _ => self.ask(from_ms, until_ms, purpose),
        }
    }

    fn jump(&mut self, by_ms: i64) -> Action {
        let Some(current) = self.timeline.current() else { return Action::Show };
        let from_ms = match self.pending.map(|pending| pending.purpose) {
            // Pressed again before the samples arrived.
            Some(Purpose::Around(wall_ms)) => wall_ms,
            _ => match self.timeline.place_away(by_ms) {
                Some(index) => return self.look_at(index),
                None => current.wall_ms,
            },
        };
        let target = from_ms.saturating_add(by_ms);
        let is_before = self.timeline.get(0).is_some_and(|first| target < first.wall_ms);
        match self.timeline.place_at(target) {
            _ if by_ms > 0 && self.timeline.has_newest() && target >= self.newest_ms => self.end(),
            Some(index) => self.look_at(index),
            None if is_before && self.timeline.has_oldest() => self.begin(),
            None => self.around(target),
        }
    }

    fn begin(&mut self) -> Action {
        if self.timeline.has_oldest() {
            return self.look_at(0);
        }
        self.ask(i64::MIN, i64::MAX, Purpose::Oldest)
    }

    fn end(&mut self) -> Action {
        if self.timeline.has_newest() {
            self.timeline.go_live();
            return self.settle();
        }
        self.newest()
    }

    fn next_mark(&mut self) -> Action {
        let cursor = self.timeline.cursor();
        if let Some(mark) = self.marks().into_iter().find(|mark| mark.index > cursor) {
            return self.look_at(mark.index);
        }
        let last_ms = self.timeline.samples().next_back().map(|last| last.wall_ms);
        match last_ms.filter(|_| !self.timeline.has_newest()) {
            Some(after_ms) => self.ask(after_ms, i64::MAX, Purpose::NextMark(after_ms)),
            None => self.no_mark(),
        }
    }

    fn previous_mark(&mut self) -> Action {
        let cursor = self.timeline.cursor();
        if let Some(mark) = self.marks().into_iter().rfind(|mark| mark.index < cursor) {
            return self.look_at(mark.index);
        }
        let first_ms = self.timeline.get(0).map(|first| first.wall_ms);
        match first_ms.filter(|_| !self.timeline.has_oldest()) {
            Some(before_ms) => self.ask(i64::MIN, before_ms, Purpose::PreviousMark(before_ms)),
            None => self.no_mark(),
        }
    }

    fn no_mark(&mut self) -> Action {
        self.notice = Some("no more marks".into());
        Action::Show
    }
}
