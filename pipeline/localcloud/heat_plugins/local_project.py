"""OS::Keystone::Project for a cloud that has no Neutron.

Heat's own asks Neutron, before it deletes a project, to delete the default security group that Neutron made for it;
without a network service in the catalog that fails, and no stack with a project in it could ever be deleted.
"""
# mypy: disallow-subclassing-any=False
# (Heat carries no types.)

from __future__ import annotations

from heat.engine.resources.openstack.keystone import project


class ProjectWithoutNetwork(project.KeystoneProject):
    """A project with no security group to clean up."""

    def handle_delete(self) -> None:
        """Delete the project itself, as Heat does after its question to Neutron."""
        super(project.KeystoneProject, self).handle_delete()


def resource_mapping() -> dict[str, type]:
    """Tell Heat what there is."""
    return {"OS::Keystone::Project": ProjectWithoutNetwork}
