/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/ethtool.h>
#include <linux/net_namespace.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>

#include "main.h"
#include "uplink/offloads.h"

/* What the kernel says of an interface. */
struct interface {
	char name[IF_NAMESIZE];
	char kind[16]; /* "veth", or nothing */
	int other;     /* index of the interface that it leads to, 0: none */
	bool is_far;   /* that one is in another network namespace, known here as nsid */
	int nsid;
};

/* Get or set one offload. 0, or a negative errno. */
static int
ethtool_value(const char *name, uint32_t command, uint32_t *value)
{
	struct ethtool_value v = { .cmd = command, .data = *value };
	struct ifreq ifr = { .ifr_data = (void *)&v };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), ret;

	if (fd < 0)
		return -errno;
	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", name);
	ret = ioctl(fd, SIOCETHTOOL, &ifr) < 0 ? -errno : 0;
	close(fd);
	*value = v.data;
	return ret;
}

static void
read_interface(struct interface *found, const struct nlmsghdr *h)
{
	const struct rtattr *a = IFLA_RTA(NLMSG_DATA(h)), *sub;
	int len = (int)IFLA_PAYLOAD(h), sub_len;

	for (; RTA_OK(a, len); a = RTA_NEXT(a, len)) {
		switch (a->rta_type) {
		case IFLA_IFNAME:
			snprintf(found->name, sizeof(found->name), "%s", (const char *)RTA_DATA(a));
			break;
		case IFLA_LINK:
			memcpy(&found->other, RTA_DATA(a), sizeof(found->other));
			break;
		case IFLA_LINK_NETNSID:
			found->is_far = true;
			memcpy(&found->nsid, RTA_DATA(a), sizeof(found->nsid));
			break;
		case IFLA_LINKINFO:
			sub = RTA_DATA(a);
			sub_len = (int)RTA_PAYLOAD(a);
			for (; RTA_OK(sub, sub_len); sub = RTA_NEXT(sub, sub_len)) {
				if (sub->rta_type == IFLA_INFO_KIND)
					snprintf(found->kind, sizeof(found->kind), "%.*s",
						(int)RTA_PAYLOAD(sub), (const char *)RTA_DATA(sub));
			}
		}
	}
}

/*
 * Ask for an interface: of this namespace, or of another by its nsid. Whether there was an answer.
 */
static bool
find_interface(struct interface *found, int index, const int *nsid)
{
	struct {
		struct nlmsghdr h;
		struct ifinfomsg info;
		struct rtattr attr;
		int nsid;
	} ask = {
		.h = { .nlmsg_type = RTM_GETLINK, .nlmsg_flags = NLM_F_REQUEST,
			.nlmsg_len = NLMSG_LENGTH(sizeof(ask.info)) },
		.info = { .ifi_family = AF_UNSPEC, .ifi_index = index },
		.attr = { .rta_len = RTA_LENGTH(sizeof(ask.nsid)),
			.rta_type = IFLA_TARGET_NETNSID },
		.nsid = nsid != NULL ? *nsid : 0,
	};
	char buf[16384] __rte_aligned(NLMSG_ALIGNTO);
	const struct nlmsghdr *h = (const struct nlmsghdr *)buf;
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	ssize_t len = -1;

	memset(found, 0, sizeof(*found));
	if (fd < 0)
		return false;
	if (nsid != NULL)
		ask.h.nlmsg_len = sizeof(ask);
	/* The answer is there when the request has been sent. */
	if (send(fd, &ask, ask.h.nlmsg_len, 0) > 0)
		len = recv(fd, buf, sizeof(buf), MSG_DONTWAIT);
	close(fd);
	if (len < 0 || !NLMSG_OK(h, (size_t)len) || h->nlmsg_type != RTM_NEWLINK)
		return false;
	read_interface(found, h);
	return true;
}

/* Segments that the kernel merges on the way in are one long frame for packet sockets. */
static void
disable_merging(struct port_offloads *offloads, const struct port_link *link)
{
	uint32_t on = 0, off = 0;
	int ret = ethtool_value(link->if_name, ETHTOOL_GGRO, &on);

	if (ret < 0 || on == 0)
		return;
	ret = ethtool_value(link->if_name, ETHTOOL_SGRO, &off);
	if (ret < 0) {
		RTE_LOG(WARNING, UPLINK, "port %u: the kernel merges received TCP segments, and "
			"guests lose them (%s): ethtool -K %s gro off\n", link->port,
			strerror(-ret), link->if_name);
		return;
	}
	snprintf(offloads->merging, sizeof(offloads->merging), "%s", link->if_name);
	RTE_LOG(INFO, UPLINK, "port %u: merging of TCP segments disabled for %s\n", link->port,
		link->if_name);
}

/* What the kernel at the other end of a veth pair leaves to a card. */
static void
disable_unfinished(struct port_offloads *offloads, const struct port_link *link)
{
	struct interface near, far;
	uint32_t on = 0, off = 0;
	int ret;

	if (!find_interface(&near, link->if_index, NULL) || strcmp(near.kind, "veth") != 0 ||
			near.other == 0)
		return;
	if (near.is_far) {
		/* Its name may be had, but not its offloads. */
		if (!find_interface(&far, near.other, &near.nsid) || far.name[0] == '\0')
			snprintf(far.name, sizeof(far.name), "NAME");
		RTE_LOG(WARNING, UPLINK, "port %u: the other end of %s is in another network "
			"namespace, where TCP needs: ethtool -K %s tx off\n",
			link->port, link->if_name, far.name);
		return;
	}
	if (!find_interface(&far, near.other, NULL))
		return;
	ret = ethtool_value(far.name, ETHTOOL_GTXCSUM, &on);
	if (ret < 0 || on == 0)
		return;
	ret = ethtool_value(far.name, ETHTOOL_STXCSUM, &off);
	if (ret < 0) {
		RTE_LOG(WARNING, UPLINK, "port %u: the other end of %s leaves TCP segmentation to "
			"a card (%s), and guests lose the frames: ethtool -K %s tx off\n",
			link->port, link->if_name, strerror(-ret), far.name);
		return;
	}
	snprintf(offloads->unfinished, sizeof(offloads->unfinished), "%s", far.name);
	RTE_LOG(INFO, UPLINK, "port %u: transmit offloads disabled for %s, the other end of %s\n",
		link->port, far.name, link->if_name);
}

void
port_offloads_disable(struct port_offloads *offloads, const struct port_link *link)
{
	memset(offloads, 0, sizeof(*offloads));
	if (link->if_index == 0)
		return;
	disable_merging(offloads, link);
	disable_unfinished(offloads, link);
}

void
port_offloads_restore(struct port_offloads *offloads)
{
	uint32_t on = 1;

	if (offloads->merging[0] != '\0')
		ethtool_value(offloads->merging, ETHTOOL_SGRO, &on);
	/* Segmentation, which depends on it, comes back with it. */
	if (offloads->unfinished[0] != '\0')
		ethtool_value(offloads->unfinished, ETHTOOL_STXCSUM, &on);
	memset(offloads, 0, sizeof(*offloads));
}
