//! What auth, user and role print.

use mainstay_print::quote::quote;
use mainstay_proto::authpb::Permission;
use mainstay_proto::authpb::permission::Type;
use mainstay_proto::etcdserverpb as pb;
use mainstay_proto::prost::Message;

use super::{Form, Show, Shown, say, unsupported};
use crate::kv::prefix_end;
use crate::messages;

impl Show {
    /// A change that says no more than that it was made.
    pub(crate) fn auth_done<M: Message>(
        &self,
        reply: &M,
        header: Option<&pb::ResponseHeader>,
        done: &str,
    ) -> Shown {
        match self.form {
            Form::Simple => say(done),
            Form::Fields => self.header(header),
            _ => return self.coded(reply, |_| messages::only_header(header)),
        }
        Ok(())
    }

    pub(crate) fn auth_status(&self, r: &pb::AuthStatusResponse) -> Shown {
        match self.form {
            Form::Simple => {
                say(&format!("Authentication Status: {}", r.enabled));
                say(&format!("AuthRevision: {}", r.auth_revision));
                Ok(())
            }
            Form::Fields => Err(unsupported("fields")),
            _ => self.coded(r, messages::auth_status),
        }
    }

    pub(crate) fn user(&self, name: &str, r: &pb::AuthUserGetResponse) -> Shown {
        match self.form {
            Form::Simple => {
                say(&format!("User: {name}"));
                let roles = r.roles.iter().map(|role| format!(" {role}"));
                say(&format!("Roles:{}", roles.collect::<String>()));
                Ok(())
            }
            Form::Fields => Err(unsupported("fields")),
            _ => self.coded(r, |r| messages::names(r.header.as_ref(), "roles", &r.roles)),
        }
    }

    pub(crate) fn users(&self, r: &pb::AuthUserListResponse) -> Shown {
        match self.form {
            Form::Simple => {
                r.users.iter().for_each(|user| say(user));
                Ok(())
            }
            Form::Fields => Err(unsupported("fields")),
            _ => self.coded(r, |r| messages::names(r.header.as_ref(), "users", &r.users)),
        }
    }

    pub(crate) fn roles(&self, r: &pb::AuthRoleListResponse) -> Shown {
        match self.form {
            Form::Simple => {
                r.roles.iter().for_each(|role| say(role));
                Ok(())
            }
            Form::Fields => {
                self.header(r.header.as_ref());
                let roles = r.roles.iter().map(|role| format!(" {}", quote(role.as_bytes())));
                say(&format!("\"Roles\" :{}", roles.collect::<String>()));
                Ok(())
            }
            _ => self.coded(r, |r| messages::names(r.header.as_ref(), "roles", &r.roles)),
        }
    }

    pub(crate) fn role(&self, name: &str, r: &pb::AuthRoleGetResponse) -> Shown {
        match self.form {
            Form::Simple => {
                simple_role(name, &r.perm);
                Ok(())
            }
            Form::Fields => {
                self.header(r.header.as_ref());
                for perm in &r.perm {
                    // etcdctl prints two spaces here.
                    say(&format!("\"PermType\" :  {}", perm.perm_type().as_str_name()));
                    say(&format!("\"Key\" : {}", quote(&perm.key)));
                    say(&format!("\"RangeEnd\" : {}", quote(&perm.range_end)));
                }
                Ok(())
            }
            _ => self.coded(r, messages::role),
        }
    }
}

fn simple_role(name: &str, permissions: &[Permission]) {
    say(&format!("Role {name}"));
    for (title, kind) in [("KV Read:", Type::Read), ("KV Write:", Type::Write)] {
        say(title);
        if name == "root" && permissions.is_empty() {
            say("\t[, <open ended>");
        }
        let of_kind = |perm: &&Permission| [kind, Type::Readwrite].contains(&perm.perm_type());
        permissions.iter().filter(of_kind).for_each(simple_permission);
    }
}

fn simple_permission(perm: &Permission) {
    let (key, end) = (String::from_utf8_lossy(&perm.key), String::from_utf8_lossy(&perm.range_end));
    let prefix = if !perm.key.is_empty() && prefix_end(&perm.key) == perm.range_end {
        format!(" (prefix {key})")
    } else {
        String::new()
    };
    say(&match &*end {
        "" => format!("\t{key}"),
        "\0" => format!("\t[{key}, <open ended>{prefix}"),
        end => format!("\t[{key}, {end}){prefix}"),
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_as_json() {
        let perm = Permission {
            perm_type: Type::Readwrite.into(),
            key: "k".into(),
            range_end: "l".into(),
        };
        let reply = pb::AuthRoleGetResponse { header: None, perm: vec![perm] };
        assert_eq!(
            messages::role(&reply).line(),
            r#"{"perm":[{"permType":2,"key":"aw==","range_end":"bA=="}]}"#
        );
    }
}
