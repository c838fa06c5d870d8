//! What others are told of a pool: `log`, `tracing`, progress bars. Each with its feature.

#![cfg(any(feature = "log", feature = "tracing", feature = "indicatif"))]

use mp_pool::Pool;
#[cfg(any(feature = "log", feature = "tracing"))]
use std::sync::Mutex;

mod methods;

use methods::guarded;

mp_pool::enable_test_support!();

fn square(n: u64) -> u64 {
    n * n
}

fn fail(n: u64) -> u64 {
    assert!(n == u64::MAX, "number {n} fails");
    n
}

#[cfg(any(feature = "log", feature = "tracing"))]
/// What was said, by level.
static SAID: Mutex<Vec<String>> = Mutex::new(Vec::new());

#[cfg(any(feature = "log", feature = "tracing"))]
fn said() -> Vec<String> {
    std::mem::take(&mut SAID.lock().expect("no panic before"))
}

#[cfg(any(feature = "log", feature = "tracing"))]
/// Some of everything that is told.
fn a_pool_at_work() {
    let pool = Pool::new(2).expect("a pool");
    pool.map(square, 0..10).expect("squares");
    pool.apply(fail, (7,)).expect_err("a panic");
    let unread = pool.apply_async(fail, (8,));
    unread.wait();
    drop(unread);
    pool.apply(die, ()).expect_err("a death");
    pool.close();
    pool.join().expect("an end");
}

#[cfg(any(feature = "log", feature = "tracing"))]
fn die() {
    std::process::abort();
}

#[cfg(feature = "log")]
mod of_log {
    use super::*;

    struct Logger;

    impl log::Log for Logger {
        fn enabled(&self, _: &log::Metadata<'_>) -> bool {
            true
        }

        fn log(&self, record: &log::Record<'_>) {
            if record.target().starts_with("mp_pool") {
                SAID.lock().expect("no panic before").push(format!(
                    "log {} {}",
                    record.level(),
                    record.args()
                ));
            }
            assert!(!record.args().to_string().contains("number 7"), "a logger that panics");
        }

        fn flush(&self) {}
    }

    static LOGGER: Logger = Logger;

    #[test]
    fn a_logger_hears_of_starts_deaths_failures_and_unread_errors() {
        guarded(|| {
            // A second time, for the second way to start, it is there.
            let _ = log::set_logger(&LOGGER);
            log::set_max_level(log::LevelFilter::Debug);
            said();
            a_pool_at_work();
            log::set_max_level(log::LevelFilter::Off);
            let said = said().into_iter().filter(|line| line.starts_with("log")).collect::<Vec<_>>();
            let count = |text: &str| said.iter().filter(|line| line.contains(text)).count();
            assert!(count("DEBUG worker") >= 5, "{said:#?}");
            assert_eq!(
                (count("started as"), count("number 7 fails"), count("DEBUG task")),
                (3, 1, 3),
                "{said:#?}"
            );
            assert_eq!(count("WARN nobody read the error of a task"), 1, "{said:#?}");
            assert!(count("SIGABRT") >= 2, "{said:#?}");
        });
    }
}

#[cfg(feature = "tracing")]
mod of_tracing {
    use super::*;
    use std::fmt::{Debug, Write};
    use tracing::field::{Field, Visit};
    use tracing::{Event, Metadata, Subscriber, span};

    struct Listener;

    struct Line(String);

    impl Visit for Line {
        fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
            write!(self.0, " {}={value:?}", field.name()).expect("a string");
        }
    }

    impl Subscriber for Listener {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            metadata.target().starts_with("mp_pool")
        }

        fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
            span::Id::from_u64(1)
        }

        fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

        fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

        fn event(&self, event: &Event<'_>) {
            let mut line = Line(format!("tracing {}", event.metadata().level()));
            event.record(&mut line);
            SAID.lock().expect("no panic before").push(line.0);
        }

        fn enter(&self, _: &span::Id) {}

        fn exit(&self, _: &span::Id) {}
    }

    #[test]
    fn a_subscriber_hears_of_each_task_and_worker() {
        guarded(|| {
            let _ = tracing::subscriber::set_global_default(Listener);
            said();
            a_pool_at_work();
            let said = said().into_iter().filter(|line| line.starts_with("tracing")).collect::<Vec<_>>();
            let count = |text: &str| said.iter().filter(|line| line.contains(text)).count();
            assert_eq!((count("message=task"), count("message=worker started")), (13, 3), "{said:#?}");
            assert_eq!(count("worker ended"), 3, "{said:#?}");
            assert!(count("square") == 10 && count("waited=") == 13 && count("ran=") == 13, "{said:#?}");
            assert_eq!(count("WARN message=nobody read the error"), 1, "{said:#?}");
        });
    }
}

#[cfg(feature = "indicatif")]
mod of_indicatif {
    use super::*;
    use indicatif::ProgressBar;

    #[test]
    fn a_bar_advances_with_each_item_of_a_map_or_stream() {
        guarded(|| {
            let pool = Pool::new(2).unwrap();
            let bar = ProgressBar::hidden();
            pool.task(square).progress(bar.clone()).map(0..500).unwrap();
            assert_eq!((bar.position(), bar.length()), (500, Some(500)));
            let bar = ProgressBar::hidden();
            let found = pool.task(fail).progress(bar.clone()).try_map(0..20);
            assert!(found.iter().all(Result::is_err));
            assert_eq!(bar.position(), 20, "items that fail are done, too");
            for ordered in [true, false] {
                let bar = ProgressBar::hidden();
                let task = pool.task(square).progress(bar.clone());
                let mut stream = if ordered { task.imap(0..100) } else { task.imap_unordered(0..100) };
                assert_eq!(bar.length(), Some(100));
                for done in 1..=100 {
                    stream.next().unwrap().unwrap();
                    assert_eq!(bar.position(), done);
                }
                assert!(stream.next().is_none());
            }
        });
    }
}
