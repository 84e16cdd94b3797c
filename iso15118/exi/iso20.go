package exi

import (
	"math"
	"sync"
)

// ISO20Common is the set of the common messages of ISO 15118-20:2022.
var ISO20Common = sync.OnceValue(func() *Set {
	b := newBuilder()
	b.signature()
	b.integers()
	b.iso20Values()
	b.space = ns20Types
	b.iso20Types()
	b.space = ns20Messages
	b.iso20Certificates()
	b.iso20Prices()
	b.iso20Schedules()
	b.iso20Messages()
	return b.set("iso15118-20-common", withSignature(names20), "")
})

// iso20Values are the simple types with facets (ISO 15118-20 annex A).
func (b *builder) iso20Values() {
	b.value("sessionIDType", octets(8, 8))
	b.value("genChallengeType", octets(16, 16))
	b.value("certificateType", octets(0, 1600))
	// 133 bytes on secp521r1 as in the schema; an X448 key is 57 without filler ([V2G20-2495]).
	b.value("dhPublicKeyType", octets(57, 133))
	b.value("secp521_EncryptedPrivateKeyType", octets(94, 94))
	b.value("x448_EncryptedPrivateKeyType", octets(84, 84))
	b.value("tpm_EncryptedPrivateKeyType", octets(206, 206))
	b.value("meterSignatureType", octets(0, 64))
	b.value("meterIDType", text(0, 32))
	b.value("identifierType", text(0, 255))
	b.value("nameType", text(0, 80))
	b.value("descriptionType", text(0, 160))
	b.value("currencyType", text(0, 3))
	b.value("languageType", text(0, 3))
	b.value("numericIDType", simple{kind: kindNatural, min: 1, max: math.MaxUint32})

	b.value("authorizationType", enum("EIM", "PnC"))
	b.value("ecdhCurveType", enum("SECP521", "X448"))
	b.value("processingType", enum("Finished", "Ongoing", "Ongoing_WaitingForCustomerInteraction"))
	b.value("responseCodeType", enum("OK", "OK_CertificateExpiresSoon", "OK_NewSessionEstablished", "OK_OldSessionJoined",
		"OK_PowerToleranceConfirmed", "WARNING_AuthorizationSelectionInvalid", "WARNING_CertificateExpired", "WARNING_CertificateNotYetValid",
		"WARNING_CertificateRevoked", "WARNING_CertificateValidationError", "WARNING_ChallengeInvalid", "WARNING_EIMAuthorizationFailure",
		"WARNING_eMSPUnknown", "WARNING_EVPowerProfileViolation", "WARNING_GeneralPnCAuthorizationError", "WARNING_NoCertificateAvailable",
		"WARNING_NoContractMatchingPCIDFound", "WARNING_PowerToleranceNotConfirmed", "WARNING_ScheduleRenegotiationFailed",
		"WARNING_StandbyNotAllowed", "WARNING_WPT", "FAILED", "FAILED_AssociationError", "FAILED_ContactorError",
		"FAILED_EVPowerProfileInvalid", "FAILED_EVPowerProfileViolation", "FAILED_MeteringSignatureNotValid",
		"FAILED_NoEnergyTransferServiceSelected", "FAILED_NoServiceRenegotiationSupported", "FAILED_PauseNotAllowed",
		"FAILED_PowerDeliveryNotApplied", "FAILED_PowerToleranceNotConfirmed", "FAILED_ScheduleRenegotiation",
		"FAILED_ScheduleSelectionInvalid", "FAILED_SequenceError", "FAILED_ServiceIDInvalid", "FAILED_ServiceSelectionInvalid",
		"FAILED_SignatureError", "FAILED_UnknownSession", "FAILED_WrongChargeParameter"))
}

func (b *builder) iso20Types() {
	b.typ("MessageHeaderType", one("SessionID", "sessionIDType"), one("TimeStamp", "unsignedLong"), signature)
	b.typ("V2GRequestType", one("Header", "MessageHeaderType"))
	b.typ("V2GResponseType", extends("V2GRequestType"), one("ResponseCode", "responseCodeType"))
	b.typ("RationalNumberType", one("Exponent", "byte"), one("Value", "short"))
	b.typ("ListOfRootCertificateIDsType", many("RootCertificateID", "X509IssuerSerialType", 20))
	b.typ("MeterInfoType", one("MeterID", "meterIDType"), one("ChargedEnergyReadingWh", "unsignedLong"),
		opt("BPT_DischargedEnergyReadingWh", "unsignedLong"), opt("CapacitiveEnergyReadingVARh", "unsignedLong"),
		opt("BPT_InductiveEnergyReadingVARh", "unsignedLong"), opt("MeterSignature", "meterSignatureType"),
		opt("MeterStatus", "short"), opt("MeterTimestamp", "unsignedLong"))
	b.typ("DetailedCostType", one("Amount", "RationalNumberType"), one("CostPerUnit", "RationalNumberType"))
	b.typ("DetailedTaxType", one("TaxRuleID", "numericIDType"), one("Amount", "RationalNumberType"))
	b.typ("ReceiptType", one("TimeAnchor", "unsignedLong"), opt("EnergyCosts", "DetailedCostType"), opt("OccupancyCosts", "DetailedCostType"),
		opt("AdditionalServicesCosts", "DetailedCostType"), opt("OverstayCosts", "DetailedCostType"), times("TaxCosts", "DetailedTaxType", 0, 10))
}

func (b *builder) iso20Certificates() {
	b.typ("SubCertificatesType", many("Certificate", "certificateType", 3))
	b.typ("CertificateChainType", one("Certificate", "certificateType"), opt("SubCertificates", "SubCertificatesType"))
	b.typ("SignedCertificateChainType", needID, extends("CertificateChainType"))
	b.typ("ContractCertificateChainType", one("Certificate", "certificateType"), one("SubCertificates", "SubCertificatesType"))
	b.typ("EMAIDListType", many("EMAID", "identifierType", 8))
	b.typ("SignedInstallationDataType", needID, one("ContractCertificateChain", "ContractCertificateChainType"), one("ECDHCurve", "ecdhCurveType"),
		one("DHPublicKey", "dhPublicKeyType"), choice(1, "",
			"SECP521_EncryptedPrivateKey secp521_EncryptedPrivateKeyType", "X448_EncryptedPrivateKey x448_EncryptedPrivateKeyType",
			"TPM_EncryptedPrivateKey tpm_EncryptedPrivateKeyType"))
}

// iso20Prices are the schedules that are signed.
func (b *builder) iso20Prices() {
	b.typ("PriceScheduleType", one("TimeAnchor", "unsignedLong"), one("PriceScheduleID", "numericIDType"), opt("PriceScheduleDescription", "descriptionType"))
	b.typ("PriceLevelScheduleType", id, extends("PriceScheduleType"), one("NumberOfPriceLevels", "unsignedByte"),
		one("PriceLevelScheduleEntries", "PriceLevelScheduleEntryListType"))
	b.typ("PriceLevelScheduleEntryListType", many("PriceLevelScheduleEntry", "PriceLevelScheduleEntryType", 1024))
	b.typ("PriceLevelScheduleEntryType", one("Duration", "unsignedInt"), one("PriceLevel", "unsignedByte"))
	b.typ("AbsolutePriceScheduleType", id, extends("PriceScheduleType"), one("Currency", "currencyType"), one("Language", "languageType"),
		one("PriceAlgorithm", "identifierType"), opt("MinimumCost", "RationalNumberType"), opt("MaximumCost", "RationalNumberType"),
		opt("TaxRules", "TaxRuleListType"), one("PriceRuleStacks", "PriceRuleStackListType"), opt("OverstayRules", "OverstayRuleListType"),
		opt("AdditionalSelectedServices", "AdditionalServiceListType"))
	b.typ("TaxRuleListType", many("TaxRule", "TaxRuleType", 10))
	b.typ("TaxRuleType", one("TaxRuleID", "numericIDType"), opt("TaxRuleName", "nameType"), one("TaxRate", "RationalNumberType"),
		opt("TaxIncludedInPrice", "boolean"), one("AppliesToEnergyFee", "boolean"), one("AppliesToParkingFee", "boolean"),
		one("AppliesToOverstayFee", "boolean"), one("AppliesMinimumMaximumCost", "boolean"))
	b.typ("PriceRuleStackListType", many("PriceRuleStack", "PriceRuleStackType", 1024))
	b.typ("PriceRuleStackType", one("Duration", "unsignedInt"), many("PriceRule", "PriceRuleType", 8))
	b.typ("PriceRuleType", one("EnergyFee", "RationalNumberType"), opt("ParkingFee", "RationalNumberType"), opt("ParkingFeePeriod", "unsignedInt"),
		opt("CarbonDioxideEmission", "unsignedShort"), opt("RenewableGenerationPercentage", "unsignedByte"), one("PowerRangeStart", "RationalNumberType"))
	b.typ("OverstayRuleListType", opt("OverstayTimeThreshold", "unsignedInt"), opt("OverstayPowerThreshold", "RationalNumberType"),
		many("OverstayRule", "OverstayRuleType", 5))
	b.typ("OverstayRuleType", opt("OverstayRuleDescription", "descriptionType"), one("StartTime", "unsignedInt"),
		one("OverstayFee", "RationalNumberType"), one("OverstayFeePeriod", "unsignedInt"))
	b.typ("AdditionalServiceListType", many("AdditionalService", "AdditionalServiceType", 5))
	b.typ("AdditionalServiceType", one("ServiceName", "nameType"), one("ServiceFee", "RationalNumberType"))
}

// iso20Schedules are the answers that carry price schedules.
func (b *builder) iso20Schedules() {
	prices := choice(0, "", "AbsolutePriceSchedule AbsolutePriceScheduleType", "PriceLevelSchedule PriceLevelScheduleType")
	b.typ("PowerScheduleEntryType", one("Duration", "unsignedInt"), one("Power", "RationalNumberType"),
		opt("Power_L2", "RationalNumberType"), opt("Power_L3", "RationalNumberType"))
	b.typ("PowerScheduleEntryListType", many("PowerScheduleEntry", "PowerScheduleEntryType", 1024))
	b.typ("PowerScheduleType", one("TimeAnchor", "unsignedLong"), opt("AvailableEnergy", "RationalNumberType"),
		opt("PowerTolerance", "RationalNumberType"), one("PowerScheduleEntries", "PowerScheduleEntryListType"))
	b.typ("ChargingScheduleType", one("PowerSchedule", "PowerScheduleType"), prices)
	b.typ("ScheduleTupleType", one("ScheduleTupleID", "numericIDType"), one("ChargingSchedule", "ChargingScheduleType"),
		opt("DischargingSchedule", "ChargingScheduleType"))
	b.typ("Scheduled_SEResControlModeType", many("ScheduleTuple", "ScheduleTupleType", 3))
	b.typ("Dynamic_SEResControlModeType", opt("DepartureTime", "unsignedInt"), opt("MinimumSOC", "percentValueType"),
		opt("TargetSOC", "percentValueType"), prices)
}

func (b *builder) iso20Messages() {
	b.typ("EmptyType")
	b.typ("PnC_AReqAuthorizationModeType", needID, one("GenChallenge", "genChallengeType"), one("ContractCertificateChain", "ContractCertificateChainType"))
	b.typ("Scheduled_SMDTControlModeType", one("SelectedScheduleTupleID", "numericIDType"))
	b.typ("SignedMeteringDataType", needID, one("SessionID", "sessionIDType"), one("MeterInfo", "MeterInfoType"), opt("Receipt", "ReceiptType"),
		choice(1, "", "Dynamic_SMDTControlMode EmptyType", "Scheduled_SMDTControlMode Scheduled_SMDTControlModeType"))
	for name, parts := range map[string][]part{
		"AuthorizationReq": {extends("V2GRequestType"), one("SelectedAuthorizationService", "authorizationType"),
			choice(1, "", "EIM_AReqAuthorizationMode EmptyType", "PnC_AReqAuthorizationMode PnC_AReqAuthorizationModeType")},
		"AuthorizationRes": {extends("V2GResponseType"), one("EVSEProcessing", "processingType")},
		"CertificateInstallationReq": {extends("V2GRequestType"), one("OEMProvisioningCertificateChain", "SignedCertificateChainType"),
			one("ListOfRootCertificateIDs", "ListOfRootCertificateIDsType"), one("MaximumContractCertificateChains", "unsignedByte"),
			opt("PrioritizedEMAIDs", "EMAIDListType")},
		"CertificateInstallationRes": {extends("V2GResponseType"), one("EVSEProcessing", "processingType"), one("CPSCertificateChain", "CertificateChainType"),
			one("SignedInstallationData", "SignedInstallationDataType"), one("RemainingContractCertificateChains", "unsignedByte")},
		"MeteringConfirmationReq": {extends("V2GRequestType"), one("SignedMeteringData", "SignedMeteringDataType")},
		"MeteringConfirmationRes": {extends("V2GResponseType")},
		"ScheduleExchangeRes": {extends("V2GResponseType"), one("EVSEProcessing", "processingType"), opt("GoToPause", "boolean"),
			choice(1, "", "Dynamic_SEResControlMode Dynamic_SEResControlModeType", "Scheduled_SEResControlMode Scheduled_SEResControlModeType")},
	} {
		b.typ(name+"Type", parts...)
		b.root(name, name+"Type")
	}
	b.root("SignedInstallationData", "SignedInstallationDataType")
	b.root("SignedMeteringData", "SignedMeteringDataType")
}
