use mp_process::Process;

mp_process::enable_test_support!();

fn shout(text: String) -> String {
    text.to_uppercase()
}

#[test]
fn a_process_in_an_integration_test() {
    assert_eq!(Process::spawn(shout, ("quiet".to_owned(),)).unwrap().join().unwrap(), "QUIET");
}

#[test]
fn it_finds_the_librarys_functions() {
    assert_eq!(Process::spawn(users::double, (4,)).unwrap().join().unwrap(), 8);
}
