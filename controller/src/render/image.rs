//! Images: baked, listed and unused ones.

use jiff::Timestamp;
use serde_json::json;

use super::{
    Output,
    table::{print, since},
};
use crate::{
    error::Result,
    pool::images::Uses,
    provider::{Image, ImageId},
};

/// Prints the image that was found or baked.
///
/// # Errors
/// When stdout cannot be written; a closed pipe is no error.
pub(crate) fn baked(output: &Output, image: &ImageId) -> Result<()> {
    if output.is_json() { output.record("image", json!({ "image": image.0 })) } else { output.line(&image.0) }
}

/// Prints a table of all images.
///
/// # Errors
/// As [`baked`].
pub(crate) fn list(output: &Output, images: &[Image], uses: &Uses, now: Timestamp) -> Result<()> {
    let hosts = |image: &Image| uses.get(&(image.provider, image.id.clone())).copied().unwrap_or_default();
    if output.is_json() {
        return images.iter().try_for_each(|image| {
            let mut about = json!(image);
            about["hosts"] = json!(hosts(image));
            output.record("image", about)
        });
    }
    let rows = images.iter().map(|image| {
        let age = since(image.baked_at.saturating_mul(1_000), now);
        let hosts = if image.finished { hosts(image).to_string() } else { "unfinished".into() };
        [image.id.0.clone(), image.provider.to_string(), image.agent.clone(), age, hosts, image.name.clone()]
    });
    print(output, ["ID", "PROVIDER", "AGENT", "AGE", "HOSTS", "NAME"], rows.collect())
}

/// Prints an unused image, and why it can go.
///
/// # Errors
/// As [`baked`].
pub(crate) fn superfluous(output: &Output, image: &Image) -> Result<()> {
    if output.is_json() {
        return output.record("superfluous_image", json!(image));
    }
    let why = if image.finished { "no host uses it" } else { "it was never finished" };
    output.line(format!("{} {}: {why}", image.id.0, image.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{provider::Kind, render::Format, render::tests::pages};

    #[test]
    fn images_line_up() {
        let image = |id: &str, finished| Image {
            provider: Kind::Ec2,
            id: ImageId(id.into()),
            name: "magpie-f-1".into(),
            agent: "0.1.0".into(),
            baked_at: 1_799_992_500,
            region: "eu-central-1".into(),
            finished,
        };
        let uses = Uses::from([((Kind::Ec2, ImageId("ami-1".into())), 2)]);
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let (output, data, _) = pages(Format::Text);
        list(&output, &[image("ami-1", true), image("ami-2", false)], &uses, now).unwrap();
        insta::assert_snapshot!(data.text(), @r"
        ID     PROVIDER  AGENT  AGE  HOSTS       NAME
        ami-1  ec2       0.1.0  2 h  2           magpie-f-1
        ami-2  ec2       0.1.0  2 h  unfinished  magpie-f-1
        ");
        let (output, data, _) = pages(Format::Json);
        list(&output, &[image("ami-1", true)], &uses, now).unwrap();
        let value: serde_json::Value = serde_json::from_str(&data.text()).unwrap();
        assert_eq!((&value["type"], &value["hosts"]), (&json!("image"), &json!(2)));
    }
}
