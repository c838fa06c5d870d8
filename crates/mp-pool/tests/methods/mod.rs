//! Each test twice: with workers that are fresh processes, and with workers that a fork server makes.

use mp_process::{ForkServer, StartMethod, set_start_method};

/// Runs `test` with each start method, under a watchdog, and checks each time that nothing is left.
pub(crate) fn guarded(test: impl Fn()) {
    for method in [StartMethod::Spawn, StartMethod::ForkServer] {
        mp_test::guarded(|| {
            set_start_method(method);
            test();
            ForkServer::stop();
            set_start_method(StartMethod::Spawn);
        });
    }
}
