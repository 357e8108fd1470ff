//! Images: baked, listed and unused ones.

use jiff::Timestamp;
use serde_json::json;

use super::{
    Output,
    table::{or_dash, print, since},
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
        // The provider `local` knows no version of the agent, and gives no names.
        let [agent, name] = [&image.agent, &image.name].map(|cell| or_dash(cell.clone()));
        [image.id.0.clone(), image.provider.to_string(), agent, age, hosts, name]
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
    let name = if image.name.is_empty() { String::new() } else { format!(" {}", image.name) };
    output.line(format!("{}{name}: {why}", image.id.0))
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
        let local = Image {
            provider: Kind::Local,
            name: String::new(),
            agent: String::new(),
            region: String::new(),
            ..image("6e1491bd32a9abd0-b6b4e21b406f6276", true)
        };
        let uses = Uses::from([((Kind::Ec2, ImageId("ami-1".into())), 2)]);
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let (output, data, _) = pages(Format::Text);
        list(&output, &[image("ami-1", true), image("ami-2", false), local.clone()], &uses, now).unwrap();
        superfluous(&output, &image("ami-2", false)).unwrap();
        superfluous(&output, &local).unwrap();
        insta::assert_snapshot!(data.text(), @r"
        ID                                 PROVIDER  AGENT  AGE  HOSTS       NAME
        ami-1                              ec2       0.1.0  2 h  2           magpie-f-1
        ami-2                              ec2       0.1.0  2 h  unfinished  magpie-f-1
        6e1491bd32a9abd0-b6b4e21b406f6276  local     -      2 h  0           -
        ami-2 magpie-f-1: it was never finished
        6e1491bd32a9abd0-b6b4e21b406f6276: no host uses it
        ");
        let (output, data, _) = pages(Format::Json);
        list(&output, &[image("ami-1", true)], &uses, now).unwrap();
        let value: serde_json::Value = serde_json::from_str(&data.text()).unwrap();
        assert_eq!((&value["type"], &value["hosts"]), (&json!("image"), &json!(2)));
    }
}
