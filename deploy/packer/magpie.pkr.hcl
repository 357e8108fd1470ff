# Builds an AMI that `ctl` can launch hosts from: packer init . && packer build -var package=…/magpie-agent_….deb .

packer {
  required_plugins {
    amazon = {
      source  = "github.com/hashicorp/amazon"
      version = ">= 1.3"
    }
  }
}

variable "package" {
  type        = string
  description = "The .deb of magpie-agent (.rpm for a source image that uses rpm), from `make package`"
}

variable "fleet" {
  type        = string
  description = "Fleet that may use and prune the image: the value of the tag magpie:fleet"
}

variable "packages" {
  type        = string
  default     = ""
  description = "More packages of the distribution to install, separated by spaces"
}

variable "region" {
  type    = string
  default = "eu-central-1"
}

variable "instance_type" {
  type    = string
  default = "t3.small"
}

variable "source_owner" {
  type        = string
  default     = "136693071363"
  description = "Owner of the source image; default: Debian"
}

variable "source_name" {
  type        = string
  default     = "debian-12-amd64-*"
  description = "Name of the source image; the newest match is used"
}

variable "ssh_username" {
  type    = string
  default = "admin"
}

locals {
  tags = {
    Name                = "magpie-${var.fleet}"
    "magpie:fleet"      = var.fleet
    "magpie:source-ami" = "{{ .SourceAMIName }}"
  }
  uploaded = "/tmp/${basename(var.package)}"
}

source "amazon-ebs" "host" {
  region          = var.region
  instance_type   = var.instance_type
  ssh_username    = var.ssh_username
  ami_name        = "magpie-${var.fleet}-{{ timestamp }}"
  ami_description = "Host of the Magpie fleet ${var.fleet}"
  imds_support    = "v2.0"

  source_ami_filter {
    owners      = [var.source_owner]
    most_recent = true
    filters = {
      name                = var.source_name
      root-device-type    = "ebs"
      virtualization-type = "hvm"
    }
  }

  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  tags            = local.tags
  snapshot_tags   = local.tags
  run_tags        = { Name = "magpie-${var.fleet}-builder", "magpie:fleet" = var.fleet }
  run_volume_tags = { "magpie:fleet" = var.fleet }
}

build {
  sources = ["source.amazon-ebs.host"]

  provisioner "file" {
    source      = var.package
    destination = local.uploaded
  }

  provisioner "shell" {
    inline = ["cloud-init status --wait >/dev/null || true"]
  }

  # Sealing must come last: it removes the keys of this very connection.
  provisioner "shell" {
    script          = "${path.root}/../image/install.sh"
    execute_command = "chmod +x {{ .Path }}; sudo {{ .Path }} --package '${local.uploaded}' --sha256 ${filesha256(var.package)} --packages '${var.packages}' --ec2 --seal"
    skip_clean      = true
  }
}
