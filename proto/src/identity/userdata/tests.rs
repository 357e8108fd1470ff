use proptest::prelude::*;

use super::*;

const JSON: &[u8] = br#"{"v":1,"tid":"0123456789abcdef"}"#;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

proptest! {
    #[test]
    fn a_document_is_found_again(json in "[ -~]{0,300}", extra in prop::option::of("[ -~\n\ré]{0,300}")) {
        let extra = extra.map(|extra| format!("#!/bin/sh\n{extra}"));
        let user_data = compose(json.as_bytes(), extra.as_ref().map(String::as_bytes)).expect("short enough");
        prop_assert_eq!(enrol_document(&user_data).expect("well-formed"), Some(json.as_bytes()));
        let with_lf = text(&user_data).replace("\r\n", "\n");
        prop_assert_eq!(enrol_document(with_lf.as_bytes()).expect("well-formed"), Some(json.as_bytes()));
    }

    #[test]
    fn whatever_is_embedded_the_document_is_found_or_nothing_is_composed(
        extra in "(MIME-Version: 1.0|Content-Type: multipart/mixed; boundary=(x|magpie))\r?\n([ -~]{0,9}\r?\n|--magpie(--)?\r?\n|--x\n){0,9}",
    ) {
        if let Ok(user_data) = compose(JSON, Some(extra.as_bytes())) {
            prop_assert_eq!(enrol_document(&user_data).expect("well-formed"), Some(JSON));
        }
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes: Vec<u8>, head in "(Content-Type: multipart/mixed; boundary=.{0,5}\n){0,2}\n(--.{0,5}\n){0,5}") {
        let _ = enrol_document(&bytes);
        let _ = compose(JSON, Some(&bytes));
        let _ = enrol_document(&[head.as_bytes(), &bytes].concat());
    }

    #[test]
    fn a_cut_message_is_refused(cut in 1_usize..100) {
        let user_data = compose(JSON, None).expect("composed");
        // The last line break is optional.
        let length = user_data.len() - 2 - cut;
        prop_assert!(enrol_document(&user_data[..length]).is_err());
    }
}

#[test]
fn the_extra_part_follows_and_says_what_it_is() {
    let types = [
        ("#!/bin/sh\necho\n", "Content-Type: text/x-shellscript"),
        ("#cloud-config\npackages: []\n", "Content-Type: text/cloud-config"),
        ("Content-Type: text/x-include-url\n\nhttp://example.net\n", "Content-Type: text/x-include-url"),
        ("mime-version: 1.0\nContent-Type: multipart/mixed; boundary=x\n\n--x--\n", "mime-version: 1.0"),
    ];
    for (extra, kind) in types {
        let user_data = text(&compose(JSON, Some(extra.as_bytes())).expect("composed"));
        let (own, theirs) = user_data.split_once(kind).expect("its part");
        assert!(
            own.contains(CONTENT_TYPE) && theirs.contains(extra.lines().last().expect("a line")),
            "{kind}"
        );
    }
}

#[test]
fn what_is_not_ascii_travels_encoded() {
    let script = "#!/bin/sh\necho 'größer'\n".repeat(20);
    let user_data = text(&compose(JSON, Some(script.as_bytes())).expect("composed"));
    assert!(user_data.is_ascii());
    let (_, encoded) = user_data.split_once("base64\r\n\r\n").expect("its part");
    let encoded: String = encoded.lines().take_while(|line| !line.starts_with("--")).collect();
    assert_eq!(STANDARD.decode(encoded).expect("base64"), script.as_bytes());
}

#[test]
fn other_user_data_has_no_document() {
    for other in [
        "",
        "#!/bin/sh\n",
        "#cloud-config\npackages: []\n",
        "Content-Type: text/cloud-config\n\n#cloud-config\n",
        "Content-Type: multipart/mixed; boundary=x\n\n--x\nContent-Type: text/plain\n\na\n--x--\n",
    ] {
        assert_eq!(enrol_document(other.as_bytes()).expect("no error"), None, "{other:?}");
    }
}

#[test]
fn parts_may_come_in_any_order_and_boundaries_in_any_form() {
    for boundary in ["x", "\"x\"", "x; charset=a", "\"x\"; charset=a"] {
        let message = format!(
            "content-type: Multipart/Mixed; charset=b;\n\tBoundary={boundary}\n\nfor people\n--x\n\na\n--x \n\
             CONTENT-TYPE: Application/X-Magpie-Enrol; name=e\n\n{{}}\n--xyz\n--x--\nafter"
        );
        assert_eq!(enrol_document(message.as_bytes()).expect("well-formed"), Some(&b"{}\n--xyz"[..]));
    }
}

#[test]
fn each_defect_is_named() {
    let own = format!("--x\nContent-Type: {CONTENT_TYPE}\n\n{{}}\n");
    let refusal = |message: String| enrol_document(message.as_bytes()).expect_err("refused").to_string();
    let head = "Content-Type: multipart/mixed; boundary=x\n\n";
    assert!(refusal(format!("{head}{own}{own}--x--\n")).contains("two enrol documents"));
    assert!(refusal(format!("{head}{own}")).contains("ends within a part"));
    assert!(refusal("Content-Type: multipart/mixed\n\n".to_owned()).contains("no boundary"));
    let encoded = own.replace("\n\n", "\nContent-Transfer-Encoding: base64\n\n");
    assert!(refusal(format!("{head}{encoded}--x--\n")).contains("encoded"));

    let refusal = |extra: &[u8]| compose(JSON, Some(extra)).expect_err("refused").to_string();
    assert!(refusal(b"echo\n").contains("begins with \"echo\"; known first lines are #!, #cloud-config"));
    assert!(refusal(b"#cloud-config-archive\n").contains("#cloud-config-archive"));
    let second = format!("Content-Type: {CONTENT_TYPE}\n\n{{}}\n");
    assert!(refusal(second.as_bytes()).contains("two enrol documents"));
}

#[test]
fn the_limit_is_that_of_ec2() {
    let own = compose(JSON, None).expect("composed").len();
    let script = |length: usize| [b"#!/bin/sh\n".as_slice(), &vec![b'x'; length - 10]].concat();
    let frame = compose(JSON, Some(&script(10))).expect("composed").len() - 10;
    assert_eq!(compose(JSON, Some(&script(LIMIT - frame))).expect("just short enough").len(), LIMIT);
    let error = compose(JSON, Some(&script(LIMIT - frame + 1))).expect_err("too long").to_string();
    assert!(error.contains("16385 bytes is longer than the 16384"), "{error}");
    assert!(error.contains(&format!("{own} of these")), "{error}");
}
