//! The CA directory as its owner uses it.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use controller::pki::{DEFAULT_LIFETIME, Fleet};
use proto::identity::{
    Role,
    certificate::{HostCertificate, KeyDigest, UserCertificate},
    document::Document,
};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyPair, PublicKeyData};
use tempfile::TempDir;

const HOUR: Duration = Duration::from_secs(3600);

fn fleet() -> (TempDir, PathBuf, Fleet) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("fleet");
    let fleet = Fleet::create(&path, "lab", SystemTime::now()).expect("a fleet");
    (dir, path, fleet)
}

#[test]
fn a_fleet_is_made_once_and_is_its_owners_alone() {
    let (_dir, path, fleet) = fleet();
    assert_eq!(Fleet::open(&path).expect("it opens").id(), fleet.id());
    let again = Fleet::create(&path, "lab", SystemTime::now()).expect_err("it is there");
    assert!(again.to_string().contains("exists and is not empty"), "{again}");
    for entry in fs::read_dir(&path).expect("a directory") {
        let mode = entry.expect("an entry").metadata().expect("its metadata").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
    }
    let left: Vec<_> = fs::read_dir(path.parent().expect("a parent")).expect("a directory").collect();
    assert_eq!(left.len(), 1, "no draft is left behind: {left:?}");
}

#[test]
fn what_others_may_read_is_refused_with_the_cure() {
    let (_dir, path, fleet) = fleet();
    fs::set_permissions(path.join("enrol.key"), fs::Permissions::from_mode(0o640)).expect("opened");
    let error = fleet.token("tid").expect_err("refused");
    assert!(error.hints()[0].starts_with("chmod 600 "), "{:?}", error.hints());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o750)).expect("opened");
    let error = Fleet::open(&path).expect_err("refused");
    assert!(error.hints()[0].starts_with("chmod 700 "), "{:?}", error.hints());
}

#[test]
fn a_user_is_renewed_without_asking() {
    let (_dir, _, fleet) = fleet();
    let now = SystemTime::now();
    let first = fleet.issue_user("ada", Role::Operator, HOUR, now).expect("issued");
    let same = fleet.current_user(now + HOUR / 2).expect("still good");
    assert_eq!(same.not_after, first.not_after);
    for late in [HOUR - Duration::from_secs(9 * 60), 2 * HOUR] {
        let renewed = fleet.current_user(now + late).expect("renewed");
        assert_eq!(renewed.user.role, Role::Operator);
        assert!(renewed.not_after > now + late + HOUR);
        assert_eq!(renewed.key, first.key, "the key stays, so that key and certificate never part");
        fleet.issue_user("ada", Role::Operator, HOUR, now).expect("issued");
    }
}

#[test]
fn who_cannot_renew_is_told_who_can() {
    let (_dir, path, fleet) = fleet();
    let now = SystemTime::now();
    fleet.issue_user("ci", Role::Operator, HOUR, now).expect("issued");
    fs::remove_file(path.join("user-ca.key")).expect("removed");
    assert!(fleet.current_user(now).is_ok());
    let error = fleet.current_user(now + 2 * HOUR).expect_err("expired");
    assert!(error.to_string().starts_with("the certificate of ci (operator) expired at 20"), "{error}");
    assert!(error.hints()[0].contains("user-ca.key of fleet lab"), "{:?}", error.hints());
}

#[test]
fn one_user_is_chosen_and_of_several_none() {
    let (_dir, _, fleet) = fleet();
    let now = SystemTime::now();
    assert!(fleet.current_user(now).expect_err("none").to_string().contains("no user"));
    fleet.issue_user("bob", Role::Reader, HOUR, now).expect("issued");
    assert_eq!(fleet.current_user(now).expect("the only one").user.name, "bob");
    fleet.issue_user("ada", Role::Admin, HOUR, now).expect("issued");
    let error = fleet.current_user(now).expect_err("which?");
    assert!(error.to_string().ends_with("ada, bob"), "{error}");
    assert_eq!(fleet.with_user("ada").current_user(now).expect("chosen").user.name, "ada");
}

#[test]
fn users_are_issued_as_hosts_accept_them() {
    let (_dir, _, fleet) = fleet();
    let now = SystemTime::now();
    let day = Duration::from_secs(24 * 3600);
    for (role, days) in [(Role::Reader, 30), (Role::Enroller, 7), (Role::Operator, 7), (Role::Admin, 7)] {
        let refused = fleet.issue_user("eve", role, day * days + HOUR, now).expect_err("too long");
        let sentence = format!("a certificate for the user role {role} can be valid for at most {days} days");
        assert_eq!(refused.to_string(), sentence);
        let longest = fleet.issue_user("ada", role, day * days, now).expect("issued");
        let left = longest.not_after.duration_since(now).expect("in the future");
        assert!(day * days - HOUR < left && left < day * days, "{left:?}: it began a little before now");
        UserCertificate::read(&longest.chain[0])
            .and_then(|leaf| leaf.check_fleet(fleet.id()))
            .expect("accepted");
    }
    for name in ["", "../x", ".hidden", "a b"] {
        assert!(fleet.issue_user(name, Role::Admin, DEFAULT_LIFETIME, now).is_err(), "{name:?}");
    }
}

#[test]
fn who_is_refused_a_certificate_leaves_no_key() {
    let (_dir, path, fleet) = fleet();
    let now = SystemTime::now();
    fleet.issue_user("eve", Role::Operator, Duration::from_secs(600), now).expect_err("too short to be used");
    fleet.issue_user("eve", Role::Operator, Duration::from_secs(8 * 24 * 3600), now).expect_err("too long");
    fs::remove_file(path.join("user-ca.key")).expect("removed");
    fleet.issue_user("eve", Role::Operator, HOUR, now).expect_err("nobody to sign it");
    assert!(!path.join("users").exists());
}

#[test]
fn without_a_host_to_ask_the_certificate_itself_must_be_good() {
    let (_dir, path, fleet) = fleet();
    let now = SystemTime::now();
    fleet.issue_user("ben", Role::Reader, HOUR, now).expect("issued");
    let refused = fleet.user_with(Role::Operator, "destroy", now).expect_err("he may only look");
    assert_eq!(
        refused.to_string(),
        "ben (reader) may not run `ctl destroy`: that needs the user role operator"
    );
    assert_eq!(refused.kind().exit_code(), 2);
    fleet.enroller(now).expect_err("he may not enrol either");
    for role in [Role::Operator, Role::Admin] {
        fleet.issue_user("ben", role, HOUR, now).expect("issued");
        assert_eq!(fleet.user_with(Role::Operator, "destroy", now).expect("he may").user.role, role);
        assert_eq!(fleet.enroller(now).is_ok(), role == Role::Admin);
    }

    // One that he made himself: the fleet and the role are right, the signature is another CA's.
    let own = Fleet::create(&path.with_file_name("own"), "lab", now).expect("a fleet");
    for file in ["user-ca.key", "user-ca.crt"] {
        fs::copy(path.join(file), path.with_file_name(format!("aside-{file}"))).expect("copied");
        fs::copy(path.with_file_name("own").join(file), path.join(file)).expect("copied");
    }
    let forger = Fleet::open(&path).expect("it opens");
    assert_ne!(own.id(), forger.id());
    forger.issue_user("ben", Role::Admin, HOUR, now).expect("issued");
    fs::remove_file(path.join("user-ca.key")).expect("removed");
    fs::copy(path.with_file_name("aside-user-ca.crt"), path.join("user-ca.crt")).expect("copied back");
    let refused = Fleet::open(&path).expect("it opens").user_with(Role::Operator, "destroy", now);
    let refused = refused.expect_err("forged").to_string();
    assert!(refused.starts_with("the certificate of ben is not valid in fleet lab: "), "{refused}");
}

#[test]
fn a_user_who_is_not_there_is_named_with_those_who_are() {
    let (_dir, _, fleet) = fleet();
    let now = SystemTime::now();
    let refused = fleet.clone().with_user("nosuch").check_chosen().expect_err("nobody yet");
    assert_eq!(refused.hints(), ["`ctl user issue nosuch` creates it, in a CA directory with user-ca.key"]);
    for name in ["bob", "ada"] {
        fleet.issue_user(name, Role::Reader, HOUR, now).expect("issued");
    }
    let refused = fleet.clone().with_user("nosuch").check_chosen().expect_err("not there");
    assert!(refused.to_string().starts_with("there is no user \"nosuch\" in "), "{refused}");
    assert_eq!(refused.hints(), ["known users: ada, bob"]);
    fleet.with_user("bob").check_chosen().expect("he is there");
}

#[test]
fn of_a_hosts_request_only_the_key_counts() {
    let (_dir, _, fleet) = fleet();
    let now = SystemTime::now();
    let key = KeyPair::generate().expect("a key");
    let digest = KeyDigest::of(&key.subject_public_key_info());
    let mut greedy = CertificateParams::new(["db-2.example".to_owned()]).expect("a name");
    greedy.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    greedy.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let request = greedy.serialize_request(&key).expect("a request");
    let chain = fleet.sign_host(request.der(), &digest, "db-1", now).expect("signed");
    let host = HostCertificate::read(&chain.certificates[0], "db-1", fleet.id()).expect("as it should be");
    assert_eq!((host.key, host.serial.len()), (digest, 16));
    assert_eq!(host.serial, chain.serial);

    let other = KeyDigest::of(b"another key");
    assert!(fleet.sign_host(request.der(), &other, "db-1", now).is_err());
    assert!(fleet.sign_host(b"garbage", &digest, "db-1", now).is_err());
    assert!(fleet.sign_host(request.der(), &digest, "DB 1", now).is_err());
}

#[test]
fn the_document_is_the_token_and_the_pin() {
    let (_dir, path, fleet) = fleet();
    let now = SystemTime::now();
    let document = Document::from_json(&fleet.enrol_document("tid", now).expect("written")).expect("read");
    assert_eq!(
        document.token,
        Fleet::open(&path).expect("another controller").token("tid").expect("a token")
    );
    assert_eq!(document.user_ca_pin, KeyDigest::of_certificate(fleet.user_ca()).expect("a key"));
    assert!(document.check(now + Duration::from_secs(59 * 60)).is_ok());
    assert!(document.check(now + Duration::from_secs(61 * 60)).is_err());
    assert!(fleet.token("not a tid").is_err());
}
