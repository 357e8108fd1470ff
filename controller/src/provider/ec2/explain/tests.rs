use super::*;

fn place() -> Place {
    Place {
        region_source: "[ec2] region in magpie.toml".into(),
        profile: Some("shop".into()),
        endpoint: None,
    }
}

fn refused_with(code: &str, message: &str) -> Error {
    explain(&failure(code, message), "RunInstances", "eu-central-1", &place())
}

fn failure(code: &str, message: &str) -> Failure {
    Failure {
        cause: Cause::Refused,
        code: code.into(),
        message: message.into(),
        instance_type: "g5.xlarge".into(),
    }
}

fn told(error: &Error) -> String {
    let hints = error.hints().iter().map(|hint| format!("hint: {hint}\n"));
    format!("{} ({:?})\n{}", error, error.kind(), hints.collect::<String>())
}

#[test]
fn no_rights_names_the_right() {
    insta::assert_snapshot!(told(&refused_with(
        "UnauthorizedOperation",
        "You are not authorized to perform this operation. User: arn:aws:iam::1:user/ada is not authorized to \
         perform: ec2:CreateTags on resource: arn:aws:ec2:eu-central-1:1:instance/*. Encoded authorization failure \
         message: abcdef",
    )), @r"
    EC2 in eu-central-1: RunInstances: You are not authorized to perform this operation. User: arn:aws:iam::1:user/ada is not authorized to perform: ec2:CreateTags on resource: arn:aws:ec2:eu-central-1:1:instance/* (UnauthorizedOperation) (Invalid)
    hint: the credentials of the profile shop do not allow ec2:CreateTags; deploy/aws/iam-policy.json lists all the permissions that ctl needs
    ");
    let bare = told(&refused_with("UnauthorizedOperation", "You are not authorized."));
    assert!(bare.contains("do not allow ec2:RunInstances;"), "{bare}");
}

#[test]
fn expired_credentials_name_the_remedy() {
    insta::assert_snapshot!(told(&refused_with("RequestExpired", "Request has expired.")), @r"
    EC2 in eu-central-1: RunInstances: Request has expired (RequestExpired) (Invalid)
    hint: the credentials of the profile shop have expired: run `aws sso login --profile shop`, or renew them where they come from
    ");
}

#[test]
fn no_credentials_says_where_they_are_looked_for() {
    let none = Failure {
        cause: Cause::Credentials,
        code: String::new(),
        message: "no providers in chain provided credentials".into(),
        instance_type: String::new(),
    };
    let error = explain(&none, "DescribeInstances", "eu-central-1", &Place { profile: None, ..place() });
    insta::assert_snapshot!(told(&error), @r"
    EC2 in eu-central-1: DescribeInstances: no providers in chain provided credentials (Invalid)
    hint: credentials come from the environment, the default profile, or the role of the instance that ctl runs on; `aws configure sso` sets them up
    ");
}

#[test]
fn quotas_are_named_by_family_and_market() {
    let hint = |code: &str| refused_with(code, "").hints()[0].clone();
    assert_eq!(
        hint("VcpuLimitExceeded"),
        "the quota is \"Running On-Demand G and VT instances\" (L-DB2E81BA); raise it in Service Quotas for \
         eu-central-1, or terminate instances"
    );
    assert!(hint("MaxSpotInstanceCountExceeded").contains("(L-34B43A08)"));
    for (instance_type, code) in [
        ("t3.small", "L-1216C47A"),
        ("inf2.xlarge", "L-1945791B"),
        ("p4d.24xlarge", "L-417A185B"),
        ("x2idn.16xlarge", "L-7295265B"),
        ("u-6tb1.metal", "L-43DA4232"),
        ("hpc7g.16xlarge", "L-F7808C92"),
        ("dl1.24xlarge", "L-6E869C2A"),
        ("f1.2xlarge", "L-74FC7D96"),
        ("trn1.2xlarge", "L-2C3B7624"),
        ("d3.xlarge", "L-1216C47A"),
    ] {
        assert_eq!(quota_of(instance_type).1, code, "{instance_type}");
    }
}

#[test]
fn ids_of_another_region_name_the_region_and_its_source() {
    for code in ["InvalidAMIID.NotFound", "InvalidSubnetID.NotFound", "InvalidAMIID.Malformed"] {
        let error = told(&refused_with(code, "The id 'x' does not exist"));
        assert!(error.contains("ctl uses eu-central-1, from [ec2] region in magpie.toml"), "{error}");
    }
    let error =
        told(&refused_with("AuthFailure", "AWS was not able to validate the provided access credentials"));
    assert!(error.contains("eu-central-1 is not enabled") && error.contains("profile shop"), "{error}");
    assert!(told(&refused_with("OptInRequired", "")).contains("enable eu-central-1"));
}

#[test]
fn an_endpoint_out_of_reach_is_named() {
    let lost = |cause| Failure { cause, ..failure("", "connection refused") };
    let elsewhere = Place { endpoint: Some("http://127.0.0.1:1".into()), ..place() };
    let error = told(&explain(&lost(Cause::Unreached), "RunInstances", "eu-central-1", &elsewhere));
    assert!(error.contains("the endpoint is http://127.0.0.1:1") && error.contains("Unreachable"), "{error}");
    let error = told(&explain(&lost(Cause::TimedOut), "RunInstances", "eu-central-1", &place()));
    assert!(error.contains("is ec2.eu-central-1.amazonaws.com reachable"), "{error}");
}

#[test]
fn throttling_and_trouble_are_not_the_users_fault() {
    for code in ["RequestLimitExceeded", "InternalError", "Unavailable", "InsufficientInstanceCapacity"] {
        assert_eq!(refused_with(code, "").kind(), Kind::Unreachable, "{code}");
    }
    assert_eq!(refused_with("InvalidParameterCombination", "").kind(), Kind::Invalid);
}
